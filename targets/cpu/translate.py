"""The `llvm` and `llvm_vector` dialects to LLVM IR text: xDSL's llvmlite translation with our operations added.

xDSL's own `convert_module` has no place for further operations, so the walk over functions and blocks is
here, and every operation of the `llvm` dialect goes to xDSL's `convert_op`.
"""

# llvmlite has no type information.
# pyright: basic

from __future__ import annotations

from typing import Any

from llvmlite import ir
from xdsl.backend.llvm.convert_op import convert_op
from xdsl.backend.llvm.convert_type import convert_type
from xdsl.dialects import llvm
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import Block, Operation, SSAValue

from sterna.dialects import llvm_vector

COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}


def translate_module(module: ModuleOp) -> str:
    """LLVM IR text without a target: no triple, no data layout.

    Private functions are `noinline`, which keeps kernels by their names in profiles and the time to compile linear.
    """
    translated = ir.Module()
    functions = [op for op in module.ops if isinstance(op, llvm.FuncOp)]
    for op in functions:
        type = ir.FunctionType(
            convert_type(op.function_type.output),
            [convert_type(argument) for argument in op.function_type.inputs],
        )
        function = ir.Function(translated, type, name=op.sym_name.data)
        if op.linkage.linkage.data == "internal":
            function.linkage = "internal"
            function.attributes.add("noinline")
    for op in functions:
        if op.body.blocks:
            _translate_body(op, translated.get_global(op.sym_name.data))
    return str(translated)


def _translate_body(op: llvm.FuncOp, function: ir.Function) -> None:
    blocks: dict[Block, ir.Block] = {block: function.append_basic_block() for block in op.body.blocks}
    entry, *others = op.body.blocks
    values: dict[SSAValue, ir.Value] = dict(zip(entry.args, function.args, strict=True))
    for block in others:
        builder = ir.IRBuilder(blocks[block])
        values |= {argument: builder.phi(convert_type(argument.type)) for argument in block.args}
    for block in op.body.blocks:
        builder = ir.IRBuilder(blocks[block])
        for inner in block.ops:
            _translate_op(inner, builder, values, blocks)


def _translate_op(
    op: Operation, builder: ir.IRBuilder, values: dict[SSAValue, ir.Value], blocks: dict[Block, ir.Block]
) -> None:
    match op:
        case llvm_vector.FCmpOp():
            predicate = op.predicate_name
            compare = builder.fcmp_ordered if predicate.startswith("o") else builder.fcmp_unordered
            symbol = COMPARISONS.get(predicate[1:], predicate)
            values[op.result] = compare(symbol, values[op.lhs], values[op.rhs])
        case llvm_vector.SelectOp():
            values[op.result] = builder.select(values[op.mask], values[op.lhs], values[op.rhs])
        case llvm_vector.ExtractElementOp():
            number = ir.Constant(ir.IntType(32), op.lane.value.data)
            values[op.result] = builder.extract_element(values[op.source], number)
        case llvm.AllocaOp():
            convert_op(op, builder, values, blocks)
            # The memory may hold other types than the one that it is counted in.
            space: Any = values[op.results[0]]
            space.type = convert_type(op.results[0].type)
        case llvm.GEPOp() if len(op.ssa_indices) == 1:
            # xDSL's translation makes a typed pointer of it, which llvmlite then refuses to load other
            # types from.
            element = convert_type(op.elem_type)
            values[op.result] = builder.gep(values[op.ptr], [values[op.ssa_indices[0]]], source_etype=element)
        case _:
            convert_op(op, builder, values, blocks)
