"""Shrinks a module while a property of it holds: delta debugging over functions, operations, results and arguments.

An operation is cut by using something of the same type in the place of its results: one of its operands, else an
argument or an earlier value of its block, else a new argument of its function. Every candidate verifies and has no
dangling symbol before the property is asked.

Method: Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input", 2002.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar, cast

from xdsl.dialects import arith, func
from xdsl.dialects.builtin import AnyFloat, FloatAttr, IndexType, IntegerType, ModuleOp
from xdsl.ir import Attribute, Block, BlockArgument, Operation, OpResult, SSAValue
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.traits import IsTerminator
from xdsl.utils.exceptions import DiagnosticException

from sterna.dialects.ternary import ElementwiseOp, LoadOp, ProjectOp, WeightOp

T = TypeVar("T")
Property = Callable[[ModuleOp], bool]
Report = Callable[[int, int], None]
"""Called with the operations that are left and the candidates tried."""


def shrink(module: ModuleOp, interesting: Property, report: Report = lambda left, tried: None) -> ModuleOp:
    """A module for which `interesting` holds, and from which no single cut can be made. The given one must have it."""
    search = _Search(module.clone(), interesting, report)
    while search.sweep():
        pass
    return search.module


class _Search:
    def __init__(self, module: ModuleOp, interesting: Property, report: Report) -> None:
        self.module = module
        self._interesting = interesting
        self._report = report
        self._tried = 0

    def sweep(self) -> bool:
        """Tries every kind of cut, coarse ones first; was any made?"""
        cuts = [
            self._cut(_unused_symbols, _erase_all),
            self._cut(_returned, _drop_returned),
            self._cut(_operations, _erase_operations),
            self._cut(_derived_weights, _make_stored),
            self._cut(_scalar_inputs, _drop_scalar_inputs),
            self._cut(_unused_arguments, _drop_arguments),
            self._cut(_attributes, _drop_attributes),
        ]
        return any(cuts)

    def _cut(self, find: Callable[[ModuleOp], list[T]], cut: Callable[[Sequence[T]], None]) -> bool:
        """Cuts out as much of what `find` lists as can be spared: all, halves, quarters, ... single items."""
        changed = False
        size = len(find(self.module))
        while size:
            # From the end, so that what is cut does not move what is still to be tried.
            for start in reversed(range(0, len(find(self.module)), size)):
                candidate = self.module.clone()
                cut(find(candidate)[start : start + size])
                if self._accepts(candidate):
                    self.module = candidate
                    changed = True
            size //= 2
        return changed

    def _accepts(self, candidate: ModuleOp) -> bool:
        # What could not be cut leaves the module as it was.
        if candidate.is_structurally_equivalent(self.module) or not is_valid(candidate):
            return False
        self._tried += 1
        accepted = self._interesting(candidate)
        self._report(count_operations(candidate if accepted else self.module), self._tried)
        return accepted


def is_valid(module: ModuleOp) -> bool:
    """Does the module verify, and is everything that it loads or calls there, with the types that are used?"""
    try:
        module.verify()
    except (DiagnosticException, ValueError):
        return False
    weights = {op.sym_name.data: op.type for op in module.ops if isinstance(op, WeightOp)}
    functions = {op.sym_name.data: op.function_type for op in module.ops if isinstance(op, func.FuncOp)}
    for op in module.walk():
        match op:
            case LoadOp() if weights.get(op.weight.string_value()) != op.result.type:
                return False
            case func.CallOp():
                callee = functions.get(op.callee.string_value())
                if callee is None or callee.inputs.data != tuple(op.operand_types):
                    return False
                if callee.outputs.data != tuple(op.result_types):
                    return False
            case _:
                pass
    return True


def count_operations(module: ModuleOp) -> int:
    """Without the module itself and what ends a block."""
    return sum(1 for op in module.walk() if op is not module and not _is_terminator(op))


def _is_terminator(op: Operation) -> bool:
    return op.has_trait(IsTerminator, value_if_unregistered=False)


def _unused_symbols(module: ModuleOp) -> list[Operation]:
    """Functions that nobody calls and weights that nobody loads."""
    used = {op.weight.string_value() for op in module.walk() if isinstance(op, LoadOp)}
    used |= {op.callee.string_value() for op in module.walk() if isinstance(op, func.CallOp)}
    return [
        op for op in module.ops if not (isinstance(op, WeightOp | func.FuncOp) and op.sym_name.data in used)
    ]


def _erase_all(ops: Sequence[Operation]) -> None:
    for op in ops:
        Rewriter.erase_op(op)


def _operations(module: ModuleOp) -> list[Operation]:
    """Operations inside functions and derived weights that do not end a block."""
    return [op for op in module.walk() if op.parent_op() not in (None, module) and not _is_terminator(op)]


def _erase_operations(ops: Sequence[Operation]) -> None:
    for op in reversed(ops):
        # Its parent may have gone with it.
        if op.parent is None or op.get_toplevel_object() is op:
            continue
        substitutes = [_substitute(result) for result in op.results]
        for result, substitute in zip(op.results, substitutes, strict=True):
            if substitute is not None:
                result.replace_all_uses_with(substitute)
        if not any(result.uses for result in op.results):
            Rewriter.erase_op(op)


def _substitute(result: OpResult) -> SSAValue | None:
    """Another value of the same type that is there when the result is; None if it needs none, or there is none."""
    op, block = result.op, result.op.parent
    assert block is not None, "an operation in a function is in a block"
    if not result.uses:
        return None
    near = (*op.operands, *block.args, *_earlier_results(op))
    if (same := next((value for value in near if value.type == result.type), None)) is not None:
        return same
    owner = block.parent_op()
    if isinstance(owner, func.FuncOp) and not _is_called(owner):
        return _new_argument(owner, block, result)
    return _zero(result.type, op)


def _earlier_results(op: Operation) -> list[SSAValue]:
    """What the operations before this one in its block make, nearest first."""
    values: list[SSAValue] = []
    previous = op.prev_op
    while previous is not None:
        values += previous.results
        previous = previous.prev_op
    return values


def _new_argument(function: func.FuncOp, block: Block, like: OpResult) -> SSAValue:
    argument = block.insert_arg(like.type, 0)
    argument.name_hint = like.name_hint
    # Names and shapes of the framework's inputs no longer fit.
    for name in ("sterna.input_names", "sterna.input_shapes"):
        function.attributes.pop(name, None)
    function.update_function_type()
    return argument


def _zero(type: Attribute, op: Operation) -> SSAValue | None:
    if isinstance(op, arith.ConstantOp):
        return None
    if isinstance(type, IndexType | IntegerType):
        constant = arith.ConstantOp.from_int_and_width(0, cast("IndexType | IntegerType", type))
    elif isinstance(type, AnyFloat):
        constant = arith.ConstantOp(FloatAttr(0.0, type))
    else:
        return None
    Rewriter.insert_op(constant, InsertPoint.before(op))
    return constant.result


def _is_called(function: func.FuncOp) -> bool:
    module = function.get_toplevel_object()
    assert isinstance(module, ModuleOp)
    name = function.sym_name.data
    return any(isinstance(op, func.CallOp) and op.callee.string_value() == name for op in module.walk())


def _free_functions(module: ModuleOp) -> list[func.FuncOp]:
    """Functions whose types nobody else relies on."""
    return [op for op in module.ops if isinstance(op, func.FuncOp) and op.body.blocks and not _is_called(op)]


def _returned(module: ModuleOp) -> list[tuple[func.FuncOp, int]]:
    return [
        (function, number)
        for function in _free_functions(module)
        if isinstance(last := function.body.blocks[-1].last_op, func.ReturnOp)
        for number in range(len(last.operands))
    ]


def _drop_returned(returned: Sequence[tuple[func.FuncOp, int]]) -> None:
    for function, number in reversed(returned):
        last = function.body.blocks[-1].last_op
        assert isinstance(last, func.ReturnOp)
        last.operands = [value for at, value in enumerate(last.operands) if at != number]
        function.attributes.pop("sterna.output_shapes", None)
        function.update_function_type()


def _unused_arguments(module: ModuleOp) -> list[BlockArgument]:
    functions = _free_functions(module)
    return [arg for function in functions for arg in function.body.block.args if not arg.uses]


def _drop_arguments(arguments: Sequence[BlockArgument]) -> None:
    for argument in arguments:
        function = argument.block.parent_op()
        assert isinstance(function, func.FuncOp)
        argument.block.erase_arg(argument)
        for name in ("sterna.input_names", "sterna.input_shapes"):
            function.attributes.pop(name, None)
        function.update_function_type()


def _derived_weights(module: ModuleOp) -> list[WeightOp]:
    return [op for op in module.ops if isinstance(op, WeightOp) and op.body is not None]


def _make_stored(weights: Sequence[WeightOp]) -> None:
    for weight in weights:
        Rewriter.replace_op(weight, WeightOp(weight.sym_name.data, weight.type))


def _scalar_inputs(module: ModuleOp) -> list[tuple[Operation, int]]:
    """Inputs of a fused region that it does not use, by the number of the operand."""
    found: list[tuple[Operation, int]] = []
    for op in module.walk():
        match op:
            case ElementwiseOp():
                first, scalars = 0, op.body.block.args
            case ProjectOp():
                first = len(op.operands) - len(op.extras)
                scalars = op.body.block.args[len(op.weights) :]
            case _:
                continue
        found += [(op, first + at) for at, scalar in enumerate(scalars) if not scalar.uses]
    return found


def _drop_scalar_inputs(inputs: Sequence[tuple[Operation, int]]) -> None:
    for op, number in reversed(inputs):
        match op:
            case ElementwiseOp():
                kept = [value for at, value in enumerate(op.inputs) if at != number]
                op.operands = kept
                op.body.block.erase_arg(op.body.block.args[number])
            case ProjectOp():
                at = number - (len(op.operands) - len(op.extras))
                segments = (op.q, op.steps, op.weights, op.scales)
                extras = [value for extra, value in enumerate(op.extras) if extra != at]
                body = op.detach_region(op.body)
                body.block.erase_arg(body.block.args[len(op.weights) + at])
                reads, types = op.reads.get_values(), op.result_types
                slim = ProjectOp(*segments, extras, reads, body, types)
                slim.location = op.location
                Rewriter.replace_op(op, slim)
            case _:
                pass


def _attributes(module: ModuleOp) -> list[tuple[Operation, str]]:
    return [(op, name) for op in module.walk() for name in op.attributes]


def _drop_attributes(attributes: Sequence[tuple[Operation, str]]) -> None:
    for op, name in attributes:
        op.attributes.pop(name, None)
