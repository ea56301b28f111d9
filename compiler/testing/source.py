"""Python source that makes an array again, bit for bit."""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

SHOWN = 256
"""The most elements that are written one by one."""


def array_source(array: Array) -> str:
    """An expression over `np`, and `decode` where the array is large."""
    array = np.asarray(array)
    dtype = f"np.{array.dtype.name}" if array.dtype != np.bool_ else "np.bool_"
    if array.size and _is_uniform(array):
        value = _number(array.reshape(-1)[0])
        return f"np.full({array.shape}, {value}, {dtype})" if array.ndim else f"np.array({value}, {dtype})"
    if array.size > SHOWN:
        return (
            f"decode({base64.b85encode(zlib.compress(array.tobytes())).decode()!r}, {array.shape}, {dtype})"
        )
    if not array.size:
        return f"np.zeros({array.shape}, {dtype})"
    return f"np.array({_nested(array)}, {dtype})"


def decode(text: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """The array of a `decode(...)` expression."""
    return np.frombuffer(zlib.decompress(base64.b85decode(text)), dtype).reshape(shape).copy()


def _is_uniform(array: Array) -> bool:
    data = array.tobytes()
    return data == data[: array.itemsize] * array.size


def _nested(array: Array) -> str:
    if array.ndim == 0:
        return _number(array[()])
    return f"[{', '.join(_nested(part) for part in array)}]"


def _number(value: Any) -> str:
    if value.dtype.kind != "f":
        return str(value.item())
    if np.isfinite(value):
        short = str(value)
        return short if type(value)(float(short)) == value else repr(float(value))
    if np.isnan(value):
        return "np.nan"
    return "np.inf" if value > 0 else "-np.inf"
