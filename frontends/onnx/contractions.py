"""Products: MatMul, Gemm, Einsum."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from string import ascii_lowercase

from xdsl.dialects import arith
from xdsl.dialects.builtin import DYNAMIC_INDEX
from xdsl.ir import SSAValue

from sterna.frontends.onnx.elementwise import MUL, choose
from sterna.frontends.onnx.emitters import EmitterTable
from sterna.frontends.onnx.errors import OnnxError, Unsupported
from sterna.frontends.onnx.node import Node
from sterna.frontends.onnx.reductions import reduced_sum, without_axes
from sterna.frontends.onnx.shapes import reshaped, transposed
from sterna.frontends.onnx.sizes import Dim, Size, count_elements, ir_shape, ir_size, shape_text
from sterna.frontends.onnx.values import Tensor

EMITTERS = EmitterTable()
emits = EMITTERS.of


def matrix_product(to: Node, x: Tensor, weight: Tensor) -> Tensor:
    """x [..., K] by a matrix [K, M]: one product of matrices, where the axes before K can be one."""
    columns, width = weight.shape
    shape: list[Dim] = [*x.shape[:-1], width]
    outer = ir_shape(x.shape[:-1])
    if DYNAMIC_INDEX in outer and len(outer) > 1:
        return labelled_product(to, x, weight, _letters(x.rank, "k"), "km", f"{_letters(x.rank, 'm')}")
    rows, k, m = outer[0] if len(outer) == 1 else prod(outer), ir_size(columns), ir_size(width)
    flat = to.ir_reshape(to.value(x), (rows, k))
    matrix = to.ir_reshape(to.value(weight), (k, m))
    to.check_size(shape)
    return to.result(to.reshape(to.build.matmul(flat, matrix), shape), shape, x.type)


def _letters(rank: int, last: str) -> str:
    """A letter for each axis, of which the last one is `last`."""
    return "abcdefghij"[: rank - 1] + last


def labelled_product(to: Node, x: Tensor, y: Tensor, left: str, right: str, out: str) -> Tensor:
    """The sum over one letter of products: `"bik", "bkj" -> "bij"`. Sizes of one letter are equal, or 1."""
    sizes: dict[str, Dim] = {}
    for letters, tensor in ((left, x), (right, y)):
        for letter, size in zip(letters, tensor.shape, strict=True):
            if sizes.setdefault(letter, size) in (1, size):
                sizes[letter] = size
            elif size != 1:
                raise OnnxError(
                    f"{to.place}: {shape_text(x.shape)} and {shape_text(y.shape)} do not multiply"
                )
    shape = tuple(sizes[letter] for letter in out)
    to.check_size(shape)
    (summed,) = set(sizes) - set(out)
    kept = [
        "".join(letter for letter, size in zip(letters, tensor.shape, strict=True) if ir_size(size) != 1)
        for letters, tensor in ((left, x), (right, y))
    ]
    result = "".join(letter for letter in out if ir_size(sizes[letter]) != 1)
    if ir_size(sizes[summed]) == 1:
        return _outer_product(to, x, y, (left, right), out, sizes)
    if any(summed not in letters for letters in kept):
        raise OnnxError(f"{to.place}: {shape_text(x.shape)} and {shape_text(y.shape)} do not multiply")
    value = to.build.contract(to.value(x), to.value(y), f"{kept[0]},{kept[1]}->{result}", x.type.element)
    return to.result(value, shape, x.type)


def _outer_product(
    to: Node, x: Tensor, y: Tensor, letters: tuple[str, str], out: str, sizes: dict[str, Dim]
) -> Tensor:
    """The product of one element each, as an elementwise one."""
    shape = tuple(sizes[letter] for letter in out)
    spread: list[SSAValue] = []
    for tensor, names in zip((x, y), letters, strict=True):
        ordered = sorted((name for name in names if name in out), key=out.index)
        moved = transposed(to, tensor, [names.index(name) for name in ordered] + _missing(names, ordered))
        apart = tuple(tensor.shape[names.index(name)] if name in names else 1 for name in out)
        spread.append(to.stretch(to.value(moved), apart, shape))
    return to.result(choose(to, MUL, spread[0], spread[1], x.type), shape, x.type)


def _missing(names: str, ordered: Sequence[str]) -> list[int]:
    return [n for n, name in enumerate(names) if name not in ordered]


@emits("MatMul")
def matmul(to: Node, x: Tensor, y: Tensor) -> Tensor:
    """numpy's: the last two axes multiply, those before are broadcast, a vector is a row or a column."""
    if not x.rank or not y.rank:
        raise OnnxError(f"{to.place}: {shape_text(x.shape)} and {shape_text(y.shape)} do not multiply")
    if x.type.is_unsigned:
        raise Unsupported(f"on {x.type.name}")
    if x.shape[-1] != y.shape[max(y.rank - 2, 0)]:
        raise OnnxError(f"{to.place}: {shape_text(x.shape)} and {shape_text(y.shape)} do not multiply")
    if y.rank == 2 and x.type.is_float:
        return matrix_product(to, x, y)
    rank = max(x.rank, y.rank, 2)
    if rank > len(ascii_lowercase) - 3:
        raise Unsupported(f"on {rank} axes")
    outer = ascii_lowercase[: rank - 2]
    left = (outer[len(outer) - max(x.rank - 2, 0) :] if x.rank > 1 else "") + ("xy" if x.rank > 1 else "y")
    right = (outer[len(outer) - max(y.rank - 2, 0) :] if y.rank > 1 else "") + ("yz" if y.rank > 1 else "y")
    out = outer + ("x" if x.rank > 1 else "") + ("z" if y.rank > 1 else "")
    return labelled_product(to, x, y, left, right, out)


@emits("Gemm")
def gemm(to: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """alpha * (a @ b) + beta * c, where a and b may come transposed."""
    if a.rank != 2 or b.rank != 2:
        raise OnnxError(
            f"{to.place}: expected matrices, found {shape_text(a.shape)} and {shape_text(b.shape)}"
        )
    if not a.type.is_float:
        raise Unsupported(f"on {a.type.name}")
    a = transposed(to, a, [1, 0]) if to.integer("transA", 0) else a
    b = transposed(to, b, [1, 0]) if to.integer("transB", 0) else b
    if a.shape[1] != b.shape[0]:
        raise OnnxError(f"{to.place}: {shape_text(a.shape)} and {shape_text(b.shape)} do not multiply")
    product = matrix_product(to, a, b)
    value = _scaled(to, to.value(product), product, to.number("alpha", 1.0))
    if c is not None and (beta := to.number("beta", 1.0)) != 0:
        if to.broadcast_shape(product, c) != product.shape:
            raise OnnxError(
                f"{to.place}: input 'C' of {shape_text(c.shape)} does not fit {shape_text(product.shape)}"
            )
        addend = _scaled(to, to.broadcast(c, product.shape), product, beta)
        value = to.binary(arith.AddfOp, value, addend)
    return to.result(value, product.shape, product.type)


def _scaled(to: Node, value: SSAValue, like: Tensor, factor: float) -> SSAValue:
    if factor == 1:
        return value
    return choose(to, MUL, to.splat(factor, like.shape, like.type), value, like.type)


@emits("Einsum")
def einsum(to: Node, *inputs: Tensor) -> Tensor:
    """Products of two tensors at a time, from the left; what only one of them has is summed first."""
    equation = to.text("equation").replace(" ", "")
    operands, arrow, out = equation.partition("->")
    names = operands.split(",")
    if "." in equation:
        raise Unsupported("an ellipsis")
    fits = len(names) == len(inputs) and all(
        (name.isalpha() and len(name) == x.rank) or (not name and not x.rank)
        for name, x in zip(names, inputs, strict=False)
    )
    if not arrow:
        joined = "".join(names)
        out = "".join(sorted(letter for letter in set(joined) if joined.count(letter) == 1))
    if not fits or len(set(out)) != len(out) or not set(out) <= set("".join(names)):
        raise OnnxError(f"{to.place}: equation '{equation}' does not fit {len(inputs)} inputs")
    if any(len(set(name)) != len(name) for name in names):
        raise Unsupported("a diagonal")
    result, letters = inputs[0], names[0]
    for number in range(1, len(inputs)):
        later = set(out) | set("".join(names[number + 1 :]))
        result, letters = _pair(to, result, letters, inputs[number], names[number], later)
    result, letters = _summed(to, result, letters, set(out))
    return transposed(to, result, [letters.index(letter) for letter in out])


def _summed(to: Node, x: Tensor, letters: str, wanted: set[str]) -> tuple[Tensor, str]:
    """x summed over the letters that nothing wants."""
    axes = [axis for axis, letter in enumerate(letters) if letter not in wanted]
    if not axes:
        return x, letters
    return without_axes(to, reduced_sum(to, x, axes), axes), "".join(n for n in letters if n in wanted)


def _pair(to: Node, x: Tensor, left: str, y: Tensor, right: str, later: set[str]) -> tuple[Tensor, str]:
    x, left = _summed(to, x, left, later | set(right))
    y, right = _summed(to, y, right, later | set(left))
    summed = [letter for letter in left if letter in right and letter not in later]
    kept_left = [letter for letter in left if letter not in summed]
    kept_right = [letter for letter in right if letter not in summed]
    x = _with_one_axis(to, x, left, kept_left, summed)
    y = _with_one_axis(to, y, right, kept_right, summed)
    out = "".join(dict.fromkeys([*kept_left, *kept_right]))
    spare = next(letter for letter in ascii_lowercase if letter not in left + right + out)
    product = labelled_product(to, x, y, "".join(kept_left) + spare, "".join(kept_right) + spare, out)
    return product, out


def _with_one_axis(to: Node, x: Tensor, letters: str, kept: Sequence[str], summed: Sequence[str]) -> Tensor:
    """x with the kept axes first, and those that are summed merged into one, the last."""
    moved = transposed(to, x, [letters.index(letter) for letter in (*kept, *summed)])
    sizes = moved.shape[len(kept) :]
    if sum(isinstance(size, Size) for size in sizes) and len(sizes) > 1:
        raise Unsupported("a sum over an axis of unknown size and others")
    return reshaped(to, moved, [*moved.shape[: len(kept)], count_elements(sizes)])
