"""Leaving with what you brought: a model as ONNX, its trits in two bits each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sterna.api import load_source
from sterna.dialects.context import make_context
from sterna.dialects.encodings import is_trits
from sterna.dialects.errors import CompileError
from sterna.pass_runner import run_passes
from sterna.passes import PASSES
from sterna.progress import Progress, no_progress

if TYPE_CHECKING:
    from xdsl.dialects.builtin import ModuleOp

    from sterna.api import Source

INLINE_BYTES = 1 << 30
"""More weights than this go to a file of their own: a protobuf holds less than 2 GB."""


def export(
    source: Source,
    path: str | Path,
    example_inputs: Sequence[Any] | None = None,
    *,
    external_data: bool | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> list[Path]:
    """Writes an ONNX model (opset 25) that computes what the compiled model computes; returns the files it wrote.

    `source` is what `sterna.compile` takes. Integers are identical; floats differ as far as a runtime's order of
    summation and its `Exp` do. Recurrent states are inputs and results. Trits are INT2, widened by a Cast.
    `external_data` puts the weights into `PATH.data`, which happens by itself above 1 GiB.
    CompileError names operations that have no ONNX form.
    """
    try:
        from sterna.targets.onnx.export import PIPELINE, to_onnx
        from sterna.targets.onnx.initializers import External, Inline
    except ImportError as error:
        raise CompileError(
            f"exporting needs the onnx package: pip install 'sterna[onnx]' ({error})"
        ) from error
    destination = Path(path)
    if destination.is_dir():
        raise CompileError(f"{destination}: expected a file to write, found a directory")
    if not destination.parent.is_dir():
        raise CompileError(f"{destination.parent}: no such directory")
    progress("importing", 0, 1)
    imported = load_source(source, example_inputs, **options)
    module, weights = imported.module, imported.weights
    run_passes(make_context(weights), module, [PASSES[name]() for name in PIPELINE])
    external = weights_bytes(module) > INLINE_BYTES if external_data is None else external_data
    data = destination.with_name(destination.name + ".data")
    # Beside the destination, so that what is whole can be renamed.
    with TemporaryDirectory(prefix=f".{destination.name}-", dir=destination.parent) as folder:
        written = Path(folder) / destination.name
        if external:
            with (Path(folder) / data.name).open("wb") as file:
                model = to_onnx(module, weights, External(file, data.name), progress)
        else:
            model = to_onnx(module, weights, Inline(), progress)
        written.write_bytes(model.SerializeToString())
        if external:
            os.replace(Path(folder) / data.name, data)
        os.replace(written, destination)
    return [destination, data] if external else [destination]


def weights_bytes(module: ModuleOp) -> int:
    """Bytes of the numbers that functions load, at two bits a trit."""
    from xdsl.dialects.func import FuncOp

    from sterna.dialects.ternary import LoadOp, tensor

    types = {
        load.weight.string_value(): tensor(load.result)
        for function in module.ops
        if isinstance(function, FuncOp)
        for load in function.walk()
        if isinstance(load, LoadOp)
    }
    total = 0
    for type in types.values():
        count = 1
        for size in type.get_shape():
            count *= size
        total += count // 4 if is_trits(type) else count * 4
    return total
