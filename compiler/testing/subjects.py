"""What can be compared: a program of IR in the interpreter or on a target, a model, a session, any function on arrays.

A subject runs on arrays of the framework's shapes, and gives all results, recurrent states last.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.context import parse
from sterna.dialects.errors import CompileError
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.dialects.weight_ops import WeightOp
from sterna.dialects.weights import ArrayStore, WeightStore
from sterna.instruments.inputs import entry_function
from sterna.ir_text import print_ir
from sterna.targets.interface import entry_values, ir_shape
from sterna.testing.source import array_source

Array = npt.NDArray[Any]
Weights = WeightStore | Mapping[str, Array] | None

LARGEST_SOURCE = 1 << 22
"""Elements of weights that are tried as the text of a test."""
LONGEST_SOURCE = 1 << 16
"""Characters of weights that still go into the text of a test: what is mostly zero is short."""


class Subject(Protocol):
    @property
    def name(self) -> str: ...

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]: ...

    def source(self) -> tuple[str, str] | None:
        """Lines that come first, and the expression; None for what cannot be written as source."""
        ...


def store_of(weights: Weights) -> WeightStore:
    return ArrayStore(dict(weights)) if isinstance(weights, Mapping) else weights or ArrayStore({})


@dataclass
class Program:
    """IR as text or as a module, and its weights."""

    module: ModuleOp | str
    weights: Weights = None

    @cached_property
    def op(self) -> ModuleOp:
        return parse(self.module) if isinstance(self.module, str) else self.module

    @property
    def store(self) -> WeightStore:
        return store_of(self.weights)

    @property
    def text(self) -> str:
        return self.module.strip() if isinstance(self.module, str) else print_ir(self.op)

    def numbers(self) -> dict[str, Array]:
        """The stored weights."""
        stored = (op for op in self.op.ops if isinstance(op, WeightOp) and op.body is None)
        return {op.sym_name.data: np.asarray(self.store.read(op.sym_name.data)) for op in stored}

    def source_lines(self) -> str | None:
        """Definitions of IR and WEIGHTS; None where the weights are too large for a text."""
        stored = [op for op in self.op.ops if isinstance(op, WeightOp) and op.body is None]
        if sum(int(np.prod(op.type.get_shape())) for op in stored) > LARGEST_SOURCE:
            return None
        numbers = [f"    {name!r}: {array_source(array)}," for name, array in self.numbers().items()]
        if sum(map(len, numbers)) > LONGEST_SOURCE:
            return None
        return "\n".join([f'IR = """\n{self.text}\n"""', "WEIGHTS = {", *numbers, "}"])


@dataclass
class Interpreted(Program):
    """A program in the interpreter, at any stage: the definition of what it computes."""

    name: str = "interpreter"

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        entry = entry_function(self.op)
        ports = entry_values(entry, "input")
        given = [
            value if port.shape == ir_shape(port.value) else _drop_units(np.asarray(value), port.shape)
            for value, port in zip(inputs, ports, strict=False)
        ]
        results = self._interpreter.run([*given, *inputs[len(ports) :]], function=entry.sym_name.data)
        outputs = entry_values(entry, "output")
        return tuple(
            result.reshape(_with_units(result, port.shape))
            for result, port in zip(results, outputs, strict=True)
        )

    @cached_property
    def _interpreter(self) -> ModuleInterpreter:
        return ModuleInterpreter(self.op, self.store)

    def source(self) -> tuple[str, str] | None:
        lines = self.source_lines()
        return None if lines is None else (lines, "Interpreted(IR, WEIGHTS)")


def _drop_units(value: Array, shape: tuple[int, ...]) -> Array:
    """As the IR has it: the axes that the framework's type has with size 1 are left out."""
    if len(shape) != value.ndim or 1 not in shape:
        return value
    return value.reshape([there for size, there in zip(shape, value.shape, strict=True) if size != 1])


def _with_units(value: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) == value.ndim:
        return value.shape
    sizes = iter(value.shape)
    return tuple(1 if size == 1 else next(sizes) for size in shape)


@dataclass
class Compiled(Program):
    """A program on a target, of one level of instructions and so many threads; `emulate` a level that is not here."""

    target: str = "cpu"
    isa: str | None = None
    threads: int | None = None
    emulate: bool = False
    max_rows: int = 64
    planned: bool = False
    """The module is at the stage *scheduled*: no pass runs."""
    target_options: Mapping[str, str] = field(default_factory=dict[str, str])
    """The target's own, as `{"encoding": "b3"}`."""

    @property
    def name(self) -> str:
        level = f" {self.isa}" if self.isa else ""
        threads = f", {self.threads} thread{'s' if self.threads != 1 else ''}" if self.threads else ""
        options = "".join(f" --{name} {value}" for name, value in self.target_options.items())
        return f"{self.target}{options}{level}{' (emulated)' if self.emulate else ''}{threads}"

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        return self._executable.run(inputs)

    @cached_property
    def _executable(self) -> Any:
        from sterna.in_memory import jit, load_planned

        isa = self.isa or self._emulated_level()
        if self.planned:
            return load_planned(
                self.op,
                self.store,
                self.target,
                threads=self.threads,
                isa=isa,
                emulate=self.emulate,
            )
        return jit(
            self.op,
            self.store,
            self.target,
            max_rows=self.max_rows,
            threads=self.threads,
            isa=isa,
            emulate=self.emulate,
            target_options=self.target_options,
        )

    def _emulated_level(self) -> str | None:
        """Of a target for which there is no machine here: what runs everywhere."""
        from sterna.plugins import find_target

        target = find_target(self.target)
        return None if target.levels() else next(iter(target.levels(emulated=True)), None)

    def source(self) -> tuple[str, str] | None:
        defaults = Compiled("")
        names = ("target", "isa", "threads", "emulate", "max_rows", "planned", "target_options")
        options = [
            f"{name}={getattr(self, name)!r}"
            for name in names
            if getattr(self, name) != getattr(defaults, name)
        ]
        lines = self.source_lines()
        return None if lines is None else (lines, f"Compiled({', '.join(['IR', 'WEIGHTS', *options])})")


@dataclass
class Foreign:
    """Anything that is called with arrays."""

    name: str
    call: Callable[..., Any]
    original: object = field(default=None, repr=False)

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        result = self.call(*inputs)
        results = cast("Sequence[Any]", result) if isinstance(result, tuple | list) else (result,)
        return tuple(np.asarray(each) for each in results)

    def source(self) -> tuple[str, str] | None:
        """A function that a module has by name can be imported again; what knows its own source says it."""
        function = self.original
        if callable(own := getattr(function, "python_source", None)):
            return cast("tuple[str, str]", own())
        module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
        if not name.isidentifier() or getattr(sys.modules.get(module), name, None) is not function:
            return None
        return f"from {module} import {name}", name


def as_subject(value: Any) -> Subject:
    """What `value` is: a subject, IR, a compiled model or the path of one, a module, a session, a function on arrays.

    CompileError for anything else.
    """
    match value:
        case Interpreted() | Compiled() | Foreign():
            return value
        case str() | Path() if _is_path(value):
            from sterna.model import load

            return as_subject(load(value))
        case str() | ModuleOp():
            return Interpreted(value)
        case (ModuleOp() | str(), weights):
            return Interpreted(value[0], weights)
        case _:
            pass
    ancestors = {f"{each.__module__.split('.')[0]}.{each.__name__}" for each in type(value).__mro__}
    kind = str(type(value).__name__)
    if "torch.Module" in ancestors:
        return Foreign(f"PyTorch {kind}", lambda *inputs: _run_torch(value, inputs), value)
    if "onnxruntime.InferenceSession" in ancestors:
        names = [each.name for each in value.get_inputs()]
        return Foreign("ONNX Runtime", lambda *inputs: value.run(None, dict(zip(names, inputs, strict=True))))
    if "llama_cpp.Llama" in ancestors:
        return Foreign("llama.cpp", partial(_run_llama, value))
    if "sterna.CompiledModel" in ancestors:
        return Foreign(
            f"compiled model, {value.isa}, {value.threads} threads", lambda *i: _run_model(value, i)
        )
    if hasattr(value, "text") and hasattr(value, "weights"):
        return Interpreted(value.text, value.weights)
    if hasattr(value, "program") and callable(getattr(value, "run", None)):
        return Foreign(f"executable, {value.isa}", lambda *inputs: value.run(inputs))
    if callable(value):
        return Foreign(getattr(value, "__name__", kind), value, value)
    raise CompileError(
        f"{kind} cannot be compared: expected IR, a compiled model, a module, a session or a function"
    )


def _is_path(value: str | Path) -> bool:
    return isinstance(value, Path) or ("\n" not in value and "func.func" not in value)


def _run_torch(module: Any, inputs: Sequence[Array]) -> Any:
    import torch

    functions: Any = torch
    with functions.no_grad():
        result: Any = module(*(functions.from_numpy(np.ascontiguousarray(value)) for value in inputs))
    results = cast("Sequence[Any]", result) if isinstance(result, tuple | list) else (result,)
    return tuple(each.detach().cpu().numpy() for each in results)


def _run_model(model: Any, inputs: Sequence[Array]) -> tuple[Array, ...]:
    plain = sum(not tensor.is_state for tensor in model.program.inputs)
    states = list(inputs[plain:]) or None
    outputs, after = model.step(*inputs[:plain], states=states)
    return (*outputs, *after) if states else tuple(outputs)


def _run_llama(llama: Any, tokens: Array) -> Array:
    """The scores after every token, `[T, V]`; the model must have been opened with `logits_all=True`."""
    llama.reset()
    llama.eval([int(token) for token in np.asarray(tokens).reshape(-1)])
    return np.asarray(llama.scores[: np.asarray(tokens).size], np.float32)
