"""Arrays as callers have them: given by name or position, of the framework's types, in .npy and .npz files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from sterna.dialects.errors import CompileError
from sterna.targets.program import DYNAMIC, InputError, ProgramTensor

Array = npt.NDArray[Any]


def described(tensors: Iterable[ProgramTensor]) -> str:
    """`x: float32 [T, 8], y: int64 [4]`"""
    return ", ".join(f"{t.name}: {t.given_dtype or t.dtype} {_given_shape(t)}" for t in tensors)


def _given_shape(tensor: ProgramTensor) -> str:
    sizes = ["T" if size == DYNAMIC else str(size) for size in tensor.shape]
    if tensor.batch_axis is not None:
        sizes[tensor.batch_axis] = "any number"
    return f"[{', '.join(sizes)}]"


def shape_text(shape: Sequence[int]) -> str:
    return f"[{', '.join('T' if size == DYNAMIC else str(size) for size in shape)}]"


def in_order(tensors: Sequence[ProgramTensor], given: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
    """The inputs in the program's order, from those by position and those by name. InputError if they do not fit."""
    names = [tensor.name for tensor in tensors]
    if unknown := sorted(set(named) - set(names)):
        raise InputError(f"there is no input '{unknown[0]}', expected {described(tensors)}")
    if twice := sorted(set(names[: len(given)]) & set(named)):
        raise InputError(f"input '{twice[0]}' is given by position and by name")
    rest = names[len(given) :]
    if len(given) > len(names) or any(name not in named for name in rest):
        found = len(given) + len(named)
        raise InputError(f"expected {len(names)} inputs ({described(tensors)}), found {found}")
    return [*given, *(named[name] for name in rest)]


def held(value: Any, tensor: ProgramTensor) -> Array:
    """An input as the program holds it: unsigned integers by their bits, floats in 32."""
    array = np.asarray(value)
    given = tensor.given_dtype or tensor.dtype
    if not given.startswith("uint"):
        if array.dtype.name == "bfloat16":
            array = array.astype(np.float32)
        return array if _casts(array, tensor.dtype) else _refused(array, tensor)
    wide = given if np.dtype(tensor.dtype).itemsize * 8 == int(given[4:]) else f"u{tensor.dtype}"
    if not _casts(array, wide) and not (array.dtype.kind == "i" and array.size and array.min() >= 0):
        return _refused(array, tensor)
    return array.astype(wide).view(tensor.dtype)


def _casts(array: Array, dtype: str) -> bool:
    return array.dtype == dtype or np.can_cast(array.dtype, dtype, "same_kind")


def _refused(array: Array, tensor: ProgramTensor) -> Array:
    expected = tensor.given_dtype or tensor.dtype
    raise InputError(f"input '{tensor.name}': expected {expected}, found {array.dtype}")


def as_given(array: Array, tensor: ProgramTensor) -> Array:
    """An output in the framework's type. numpy has no bfloat16: such an output comes as float32."""
    given = tensor.given_dtype
    if given is None or given == "bfloat16":
        return array
    if given.startswith("uint"):
        return array.view(f"u{tensor.dtype}")
    return array.astype(given) if given == "float16" else array


def run_by_sample(
    run: Callable[[Sequence[Array]], Sequence[Array]],
    inputs: Sequence[ProgramTensor],
    outputs: Sequence[ProgramTensor],
    arrays: Sequence[Array],
) -> tuple[Array, ...]:
    """The outputs for a batch, of a program that takes one sample: each sample by itself, then joined."""
    sizes = {
        array.shape[tensor.batch_axis] if tensor.batch_axis < array.ndim else 0
        for tensor, array in zip(inputs, arrays, strict=True)
        if tensor.batch_axis is not None
    }
    if len(sizes) != 1:
        raise InputError(
            f"the inputs have different numbers of samples: {', '.join(map(str, sorted(sizes)))}"
        )
    (count,) = sizes
    if not count:
        raise InputError("a batch of no samples")
    results = [
        run([_sample(a, t.batch_axis, n) for a, t in zip(arrays, inputs, strict=True)]) for n in range(count)
    ]
    return tuple(
        parts[0] if tensor.batch_axis is None else np.concatenate(parts, tensor.batch_axis)
        for parts, tensor in zip(zip(*results, strict=True), outputs, strict=True)
    )


def _sample(array: Array, axis: int | None, number: int) -> Array:
    return array if axis is None else np.take(array, [number], axis)


def read_arrays(arguments: Iterable[str], names: Sequence[str]) -> dict[str, Array]:
    """The arrays of `NAME=FILE.npy`, of `FILE.npz` all that it holds, and of `FILE.npy` that of the only name.

    CompileError, in one line, for others.
    """
    arrays: dict[str, Array] = {}
    for argument in arguments:
        name, separator, file = argument.partition("=")
        found = _read(Path(file if separator else name))
        if not isinstance(found, dict):
            if not separator and len(names) != 1:
                raise CompileError(
                    f"--input {argument}: say of which input, as NAME={name}: {', '.join(names)}"
                )
            found = {name if separator else names[0]: found}
        elif separator:
            raise CompileError(f"--input {argument}: the arrays of a .npz file have names: --input {file}")
        arrays.update(found)
    return arrays


def _read(path: Path) -> Array | dict[str, Array]:
    try:
        # Never a pickle: an array of objects is refused.
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return cast(Array, loaded)
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise CompileError(f"{path}: {error.strerror or 'expected a .npy or .npz file'}") from None
    except (ValueError, EOFError, zipfile.BadZipFile, MemoryError, SyntaxError) as error:
        raise CompileError(f"{path}: expected arrays of numbers in a .npy or .npz file: {error}") from None


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """All arrays in an .npz file; in a .npy file the only one. CompileError for a file of another kind."""
    if path.suffix == ".npz":
        np.savez(path, **cast(Any, dict(arrays)))
    elif path.suffix == ".npy" and len(arrays) == 1:
        np.save(path, next(iter(arrays.values())))
    else:
        raise CompileError(f"{path}: {len(arrays)} outputs go to a .npz file, and one may go to a .npy file")
