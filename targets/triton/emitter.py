"""Prints a planned module as one Python file of Triton kernels, and a launcher that calls them in the IR's order.

Functions of the module are functions of the file; every operation, or group of them, is a launch. Kernels of the same
text are one: so equal layers share theirs. The order of the file: what is copied from `runtime.py` and the vocabulary
of kernels, functions of `dialects/elementary.py`, kernels, the module's functions, the table of weights.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import cast

from xdsl.dialects import func, scf
from xdsl.dialects.builtin import IntegerAttr, ModuleOp, TensorType, i64
from xdsl.dialects.tensor import DimOp, EmptyOp, ExtractOp
from xdsl.ir import Block, Operation, SSAValue

import sterna
from sterna.dialects.encodings import is_trits
from sterna.dialects.errors import CompileError, describe_location
from sterna.dialects.layout import buffer_bytes
from sterna.dialects.ternary import EmbeddingOp, LoadOp, ProjectOp, WeightOp, tensor
from sterna.passes.control_buffers import control_blocks
from sterna.passes.operands import tensors_read
from sterna.targets.interface import entry_values, find_entry, integer_attribute, text_capacity
from sterna.targets.row_wise import is_row_wise
from sterna.targets.triton.control import emit_for, emit_if
from sterna.targets.triton.kernel import RESERVED, TORCH, File, Host, Shape, element, in_memory
from sterna.targets.triton.kernels import emitter_of
from sterna.targets.triton.products import emit_project
from sterna.targets.triton.region import ELEMENTARY, elementary_function
from sterna.targets.triton.rows import RowFunction, RowGroup, row_shape
from sterna.targets.triton.scalars import on_device
from sterna.targets.triton.source import (
    Kernel,
    Names,
    assigned,
    call,
    definition,
    docstring,
    indented,
    listed,
)

VOCABULARY = ("prelude.py", "packed.py", "sums.py", "integers.py", "trits.py", "rotation.py")
"""Files of functions that kernels call."""

COPIED = ("runtime.py", *VOCABULARY, "decoding.py")
PRINTED = {"WEIGHTS", "TABLES", "TABLES_ON_HOST"}
"""What each file has its own of."""


def emit_module(module: ModuleOp, *, tables_on_host: bool = False) -> str:
    """The file's text. CompileError, in one line, for operations that have no kernel here."""
    return Emitter(module, tables_on_host=tables_on_host).text()


class Emitter:
    """Prints one module."""

    def __init__(self, module: ModuleOp, *, tables_on_host: bool = False) -> None:
        self.module, self.tables_on_host = module, tables_on_host
        self.functions = {op.sym_name.data: op for op in module.ops if isinstance(op, func.FuncOp)}
        self.entry = find_entry(module)
        states = integer_attribute(self.entry, "sterna.states", default=0)
        copies = (name for file in COPIED for name in definitions(file))
        taken = {*RESERVED, *copies, *ELEMENTARY, "forward"}
        self.names = Names(taken)
        self.file = File(self.names, row_wise=is_row_wise(self.entry, self.functions, states))
        self.function_names = {
            name: "forward" if function is self.entry else self.names.new(name)
            for name, function in self.functions.items()
        }
        self.weights = {op.sym_name.data: op for op in module.ops if isinstance(op, WeightOp)}

    def text(self) -> str:
        self.refuse_unknown()
        functions = [
            line
            for function in sorted(self.functions.values(), key=lambda each: each is self.entry)
            for line in ["", "", *self.function(function)]
        ]
        kernels = list(self.file.kernels.values())
        helpers = closure({name for _, kernel in kernels for name in kernel.helpers})
        parts = [
            *self.header(),
            *copied("runtime.py", set(definitions("runtime.py")) - PRINTED),
            *(part for file in VOCABULARY for part in copied(file, helpers & set(definitions(file)))),
            *(["", "", *elementary_function(name)] for name in sorted(helpers & ELEMENTARY)),
            *(["", "", *kernel_text(name, kernel)] for name, kernel in kernels),
            functions,
            *self.decoding(),
            ["", "", *self.table()],
        ]
        return "\n".join(line for part in parts for line in part) + "\n"

    def header(self) -> list[list[str]]:
        states = sum(each.is_state for each in entry_values(self.entry, "input"))
        count = len(self.entry.body.block.args)
        lines = [
            f"A program that sterna {sterna.__version__} compiled for GPUs: Triton kernels, and `forward`.",
            "",
            f"It takes {count} inputs, of which the last {states} are states, and gives the states that follow as its",
            "last results. Nothing but torch and triton is needed; under TRITON_INTERPRET=1 it runs without a GPU.",
        ]
        imports = [
            "from __future__ import annotations",
            "",
            "from dataclasses import dataclass, replace",
            "",
            "import torch",
            "import triton",
            "import triton.language as tl",
        ]
        return [docstring(lines), ["", *imports]]

    def decoding(self) -> list[list[str]]:
        """For a language model: tokens in, logits out, the rest states."""
        given, made = (entry_values(self.entry, kind) for kind in ("input", "output"))
        plain = [each for each in (*given, *made) if not each.is_state]
        states = [each for each in given if each.is_state]
        if not (self.file.row_wise and len(plain) == 2 and states and is_tokens(plain[0].value)):
            return []
        shapes = [
            f"({Shape.of(each.value).sizes}, {TORCH[element(each.value, self.entry)]})" for each in states
        ]
        names = set(definitions("decoding.py")) - {"forward", "STATES", "CAPACITY"}
        table = [
            *listed("STATES = [", shapes, "]"),
            '"""The shape of every state, of one text, and its elements."""',
        ]
        found = (text_capacity(each.value, self.functions) for each in states)
        capacity = min((each for each in found if each is not None), default=None)
        table += ["", f"CAPACITY = {capacity}", '"""The most tokens of a text, if it has a cache."""']
        return [["", "", *table], *copied("decoding.py", names)]

    def refuse_unknown(self) -> None:
        left = [
            f"{op.name} {describe_location(op.location)}".strip()
            for function in self.functions.values()
            for op in operations(function.body.block)
            if not self.is_known(op)
        ]
        if left:
            shown = "; ".join(dict.fromkeys(left))
            raise CompileError(f"the GPU target has no kernel for {len(left)} operations: {shown}")

    def is_known(self, op: Operation) -> bool:
        known = (func.ReturnOp, func.CallOp, LoadOp, EmptyOp, scf.ForOp, scf.IfOp, scf.YieldOp)
        return (
            isinstance(op, known) or is_scalar(op) or row_shape(op) is not None or emitter_of(op) is not None
        )

    def function(self, function: func.FuncOp) -> list[str]:
        host = Host(self.file)
        arguments: list[str] = []
        for argument in function.body.block.args:
            host.values[argument] = host.names.new(argument.name_hint or "value")
            arguments.append(host.values[argument])
        is_entry = function is self.entry
        if is_entry:
            host.lines += [f"{name} = batch.place({name})" for name in arguments]
        self.block(function.body.block, host)
        weights = ["weights: dict[str, torch.Tensor]"] if self.takes_weights(function) else []
        parameters = ["batch: Batch", *weights]
        name = self.function_names[function.sym_name.data]
        head = definition(name, [*parameters, *(f"{each}: torch.Tensor" for each in arguments)])
        return [*head, *indented(without_last_name(host.lines))]

    def block(self, block: Block, host: Host) -> None:
        """The statements of a block, but for what ends that of a loop or a choice."""
        group: RowGroup | None = None
        for op in block.ops:
            row: RowFunction | None = None
            if group is not None and not is_free(op) and not group.accepts(op):
                row = group.emit(op)
                group = None
            if (shape := row_shape(op)) is not None:
                group = group or RowGroup(host, *shape)
                group.ops.append(op)
            elif isinstance(op, ProjectOp):
                emit_project(op, host, row)
            else:
                self.statement(op, host)

    def takes_weights(self, function: func.FuncOp) -> bool:
        """Whether the function, or one that it calls, loads a weight itself: those of equal layers are arguments."""
        if function is self.entry:
            return True
        for op in operations(function.body.block):
            if isinstance(op, LoadOp):
                return True
            if isinstance(op, func.CallOp) and self.takes_weights(self.functions[op.callee.string_value()]):
                return True
        return False

    def statement(self, op: Operation, host: Host) -> None:
        match op:
            case LoadOp():
                host.values[op.result] = f'weights["{op.weight.string_value()}"]'
            case func.CallOp():
                self.call(op, host)
            case func.ReturnOp():
                host.lines += assigned("return ", list(map(host.expression, op.operands)) or ["None"])
            case scf.ForOp():
                emit_for(op, host, self.block)
            case scf.IfOp():
                emit_if(op, host, self.block)
            case EmptyOp():
                # Memory, where somebody reads it: what is in it may be anything, but is the same in every run.
                if any(op.tensor in tensors_read(use.operation) for use in op.tensor.uses):
                    host.allocate(op.tensor)
                    host.lines.append(f"{host.expression(op.tensor)}.zero_()")
            case _ if (emit := emitter_of(op)) is not None:
                emit(op, host)
            case _:
                pass  # A number, which the kernels that read it compute; or the end of a loop's turn.

    def call(self, op: func.CallOp, host: Host) -> None:
        callee = op.callee.string_value()
        name = self.function_names[callee]
        given = ["batch", *(["weights"] if self.takes_weights(self.functions[callee]) else [])]
        results: list[str] = []
        for result in op.results:
            host.values[result] = host.names.new(result.name_hint or "value")
            results.append(host.values[result])
        before = f"{', '.join(results)} = " if results else ""
        if where := describe_location(op.location):
            host.lines.append(f"# {where}")
        given += [
            host.expression(value) if isinstance(value.type, TensorType) else on_device(value, host, op)
            for value in op.operands
        ]
        host.lines += call(name, given, before=before, depth=1 + host.depth)

    def table(self) -> list[str]:
        lines = ["WEIGHTS: dict[str, tuple[int, int, torch.dtype]] = {"]
        for name, op in self.weights.items():
            offset = op.attributes.get("offset")
            if isinstance(offset, IntegerAttr):
                dtype = "torch.uint8" if is_trits(op.type) else TORCH[in_memory(op.type.element_type)]
                start = cast("IntegerAttr", offset).value.data
                place = [str(start), str(buffer_bytes(op.type, 0)), dtype]
                # In a table an entry has a comma behind it, in the length too.
                lines += indented(listed(f'"{name}": (', place, "),", depth=1))
        weights = [*lines, "}"] if len(lines) > 1 else [lines[0] + "}"]
        tables = listed("TABLES = [", [f'"{name}"' for name in self.weights if self.is_table(name)], "]")
        on_host = [
            f"TABLES_ON_HOST = {self.tables_on_host}",
            *sources("runtime.py")["TABLES_ON_HOST"][2:],
        ]
        return [*weights, "", *tables, *sources("runtime.py")["TABLES"][2:], "", *on_host]

    def is_table(self, name: str) -> bool:
        """Whether rows of a weight are looked up, and nothing else reads it."""
        loads = [
            op
            for function in self.functions.values()
            for op in operations(function.body.block)
            if isinstance(op, LoadOp) and op.weight.string_value() == name
        ]
        readers = [use.operation for op in loads for use in op.result.uses]
        return bool(readers) and all(isinstance(op, EmbeddingOp) for op in readers)


def is_tokens(value: SSAValue) -> bool:
    return tensor(value).element_type == i64 and Shape.of(value).sizes == (None,)


def without_last_name(lines: Sequence[str]) -> list[str]:
    """A call whose result is returned, and nothing else, is returned as it stands."""
    name = lines[-1].removeprefix("return ")
    # A call of several lines is indented, and closed.
    start = len(lines) - 2
    while start > 0 and lines[start].startswith((" ", ")")):
        start -= 1
    if not name.isidentifier() or start < 0 or not re.match(rf"{name} = \w+\(", lines[start]):
        return list(lines)
    first = lines[start].replace(f"{name} =", "return", 1)
    return [*lines[:start], first, *lines[start + 1 : -1]]


def operations(block: Block) -> Iterator[Operation]:
    """The operations of a block, those in its loops and choices included."""
    for op in block.ops:
        yield op
        for inner in control_blocks(op):
            yield from operations(inner)


def is_scalar(op: Operation) -> bool:
    """Whether it computes a number, which no launch does for itself."""
    known = isinstance(op, DimOp | ExtractOp) or op.name.startswith(("arith.", "math."))
    return known and not any(isinstance(value.type, TensorType) for value in op.results)


def is_free(op: Operation) -> bool:
    """Operations that a launch may pass by."""
    return isinstance(op, LoadOp | EmptyOp) or is_scalar(op)


def kernel_text(name: str, kernel: Kernel) -> list[str]:
    decorator = [f"@{kernel.tuned}"] if kernel.tuned else []
    return [*decorator, *kernel.text(name)]


@cache
def sources(file: str) -> Mapping[str, list[str]]:
    """The top-level definitions of a file beside this one, by name, each with the string that documents it."""
    text = files("sterna.targets.triton").joinpath(file).read_text(encoding="utf-8")
    lines = text.splitlines()
    found: dict[str, list[str]] = {}
    last = name = ""
    for node in ast.parse(text).body:
        start = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
        source = lines[start - 1 : node.end_lineno]
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found[name] = ["", "", *source]
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = ["", *source]
            case ast.If(test=ast.Name(id=test)):
                found[f"if {test}"] = ["", "", *source]
            case ast.Expr(value=ast.Constant(value=str())) if last:
                found[last] += source
                continue
            case _:
                name = ""
        last = name
    return found


def definitions(file: str) -> Iterable[str]:
    return sources(file).keys()


def copied(file: str, wanted: set[str]) -> list[list[str]]:
    parts: list[list[str]] = []
    after_definition = False
    for name, lines in sources(file).items():
        if name in wanted:
            is_definition = lines[1] == ""
            parts.append(["", *lines] if after_definition and not is_definition else lines)
            after_definition = is_definition
    return parts


def closure(wanted: set[str]) -> set[str]:
    """The functions with all that they call."""
    everything = {name: set[str]() for name in ELEMENTARY}
    words = {name for file in VOCABULARY for name in definitions(file)}
    texts = {name: "\n".join(sources(file)[name]) for file in VOCABULARY for name in definitions(file)}
    texts |= {name: "\n".join(elementary_function(name)) for name in wanted & ELEMENTARY}
    for name, text in texts.items():
        called = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
        everything[name] = called & (words - {name})
    found: set[str] = set()
    todo = list(wanted)
    while todo:
        if (name := todo.pop()) not in found:
            found.add(name)
            todo += everything[name]
    return found


__all__ = ["SSAValue", "emit_module"]
