"""The frontend `onnx`: a model file, or a ModelProto, into the IR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import ArrayLike
from onnx import ModelProto
from xdsl.dialects.builtin import UnitAttr

from sterna.dialects.weight_ops import FLOAT_LAYERS
from sterna.frontends import Imported
from sterna.frontends.onnx.importer import import_model
from sterna.frontends.onnx.reader import read_model


@dataclass(frozen=True)
class OnnxFrontend:
    """Reads ONNX models, opset 7 and newer."""

    def load(
        self,
        source: str | Path | bytes | ModelProto,
        *,
        sizes: Mapping[str, int | str] | None = None,
        constants: Mapping[str, ArrayLike] | None = None,
    ) -> Imported:
        """Imports a model. `sizes` gives open dimensions a number, by name; "T" is the one that stays open.

        `constants` gives inputs a value, by name, which the program no longer takes: sizes and axes, say.

        FrontendError for a file that is malformed; UnsupportedOpsError lists the nodes that are not supported.
        """
        module, weights = import_model(read_model(source), sizes or {}, constants or {})
        module.attributes[FLOAT_LAYERS] = UnitAttr()
        return Imported(module, weights)
