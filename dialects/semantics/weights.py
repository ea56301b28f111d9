"""The numbers of `ternary.weight`: read from the store, or computed by the weight's region."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from xdsl.dialects.builtin import ModuleOp, TensorType, bf16
from xdsl.interpreter import Interpreter
from xdsl.ir import Attribute

from sterna.dialects.elements import bfloat16_bits, dtype_of
from sterna.dialects.encodings import is_trits
from sterna.dialects.errors import CompileError
from sterna.dialects.semantics.table import Array
from sterna.dialects.ternary import WeightOp
from sterna.dialects.weights import WeightStore


class WeightReader:
    """Logical arrays of the weights of one module; those read last stay, up to `budget` bytes."""

    def __init__(
        self, module: ModuleOp, store: WeightStore | None, interpreter: Interpreter, *, budget: int
    ) -> None:
        self._weights = {op.sym_name.data: op for op in module.ops if isinstance(op, WeightOp)}
        self._store = store
        self._interpreter = interpreter
        self._budget = budget
        self._kept: OrderedDict[str, Array] = OrderedDict()
        self._pending: list[str] = []

    def read(self, name: str) -> Array:
        if name in self._kept:
            self._kept.move_to_end(name)
            return self._kept[name]
        if name in self._pending:
            raise CompileError(f"weight @{name} is derived from itself")
        if (op := self._weights.get(name)) is None:
            raise CompileError(f"there is no weight @{name} in the module")
        self._pending.append(name)
        try:
            array = self._stored(op) if op.body is None else self._derived(op)
        except CompileError as error:
            raise CompileError(f"weight @{name}: {error.message}", error.location or op.location) from None
        finally:
            self._pending.pop()
        self._keep(name, array)
        return array

    def _keep(self, name: str, array: Array) -> None:
        if array.nbytes > self._budget:
            return
        self._kept[name] = array
        while sum(kept.nbytes for kept in self._kept.values()) > self._budget:
            self._kept.popitem(last=False)

    def _derived(self, op: WeightOp) -> Array:
        assert op.body is not None
        (array,) = self._interpreter.run_ssacfg_region(op.body, (), op.sym_name.data)
        return array

    def _stored(self, op: WeightOp) -> Array:
        if self._store is None:
            raise CompileError("no weight store was given to read it from")
        try:
            array = np.asarray(self._store.read(op.sym_name.data))
        except KeyError:
            raise CompileError("the weight store has no tensor of this name") from None
        shape = op.type.get_shape()
        # The IR has no axes of size 1; a framework's tensors do.
        if [size for size in array.shape if size != 1] != [size for size in shape if size != 1]:
            raise CompileError(f"expected shape {shape}, found {array.shape} in the weight store")
        return _convert(array.reshape(shape), op.type)


def _convert(array: Array, type: TensorType[Attribute]) -> Array:
    """To the dtype of the weight's type, if that loses nothing."""
    if is_trits(type):
        trits = array.astype(np.int8)
        if not np.array_equal(trits, array) or (trits.size and np.abs(trits).max() > 1):
            raise CompileError(f"expected {type.get_element_type()}, found other values in the weight store")
        return trits
    dtype = dtype_of(type)
    if not np.can_cast(array.dtype, dtype, "safe"):
        raise CompileError(f"expected elements of {dtype}, found {array.dtype} in the weight store")
    converted = array.astype(dtype, copy=False)
    if type.element_type == bf16:
        bfloat16_bits(converted)
    return converted
