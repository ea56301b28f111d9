"""What tests of the torch frontend share: a function as a module, and the comparison of an import with torch itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.func import FuncOp

from sterna.dialects.context import parse
from sterna.dialects.interpreter import run
from sterna.frontends import Imported
from sterna.frontends.torch_module import TorchModuleFrontend


class Call(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def load(module: nn.Module, *inputs: Tensor, **options: Any) -> Imported:
    return TorchModuleFrontend().load(module.eval(), inputs, **options)


def interpret(imported: Imported, inputs: Sequence[Tensor]) -> list[np.ndarray[Any, Any]]:
    """The results for inputs of the framework's shapes; the IR has no axes of size 1."""
    types = entry(imported.module).function_type.inputs
    arrays = [np.ascontiguousarray(value.numpy()) for value in inputs]
    arrays = [array.view(np.int8) if array.dtype == np.uint8 else array for array in arrays]
    shaped = [array.reshape([n for n in array.shape if n != 1]) for array in arrays]
    assert len(types) == len(shaped)
    return list(run(imported.module, shaped, weights=imported.weights))


def entry(module: ModuleOp) -> FuncOp:
    return next(op for op in module.ops if isinstance(op, FuncOp))


def agrees(module: nn.Module, *inputs: Tensor, **options: Any) -> Imported:
    """Imports, checks that the text reads back, and compares every result with torch's."""
    imported = load(module, *inputs, **options)
    imported.module.verify()
    assert str(parse(str(imported.module))) == str(imported.module)
    expected = module(*inputs)
    expected = [expected] if isinstance(expected, Tensor) else list(expected)
    for found, value in zip(interpret(imported, inputs), expected, strict=True):
        array = value.detach().numpy()
        array = array.view(np.int8) if array.dtype == np.uint8 else array
        assert found.shape == tuple(n for n in array.shape if n != 1)
        np.testing.assert_allclose(found, array.reshape(found.shape), rtol=2e-6, atol=2e-6)
    return imported


def line_of(text: str, function: Callable[..., Any]) -> str:
    """The place of a line of a function's source, as messages write it."""
    source, first = inspect.getsourcelines(function)
    offset = next(number for number, line in enumerate(source) if text in line)
    return f"{Path(inspect.getsourcefile(function) or '').name}:{first + offset}"
