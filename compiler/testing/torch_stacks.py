"""A strategy for PyTorch modules: random stacks of what MatMul-free models are made of. Needs `sterna[torch]`.

@given(st.data())
def test_import(data):
    stack = data.draw(torch_modules())
    x = data.draw(activations((3, stack.columns)))
    assert_equivalent(stack, stack.imported, [x], tolerance(2**-5, of_largest=True))
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import product
from typing import Any

from hypothesis import strategies as st

from sterna.testing.torch_layers import (
    ACTIVATIONS,
    NORMS,
    QUANTIZATIONS,
    WEIGHTS,
    Activation,
    BitLinear,
    Convolution,
    Gated,
    Layer,
    Norm,
    Recurrence,
    Residual,
    Stack,
)

SIZES = (2, 3, 8, 17, 33, 1)
"""Columns, the plainest first."""
WIDEST = 128
"""Columns that a convolution may make."""

_size = st.sampled_from(SIZES)
_activation = st.sampled_from(tuple(ACTIVATIONS))
_spellings = tuple(product(NORMS, QUANTIZATIONS, WEIGHTS, (False, True)))


def _spelled(channels: int, spelling: tuple[str, str, str, bool]) -> BitLinear:
    return BitLinear(channels, *spelling)


# One choice and not four: what takes more than five choices is not dropped whole when a failure shrinks.
_bit_linear = st.builds(_spelled, _size, st.sampled_from(_spellings))

LAYER_KINDS: dict[str, st.SearchStrategy[Any]] = {
    "bit-linear": _bit_linear,
    "norm": st.builds(Norm, st.sampled_from(("rms", "layer"))),
    "activation": st.builds(Activation, _activation),
    "gated": st.builds(Gated, _size, _activation),
    "recurrence": st.builds(Recurrence, _size),
    "convolution": st.builds(Convolution, st.integers(1, 2), st.sampled_from((3, 2, 1)), st.booleans()),
    "residual": st.builds(Residual, _bit_linear),
}
"""What `torch_modules` draws, by name."""


@st.composite
def torch_modules(
    draw: Callable[[st.SearchStrategy[Any]], Any],
    kinds: Collection[str] | None = None,
    *,
    max_layers: int = 4,
) -> Stack:
    """A `Stack` of some of these kinds of layers; all by default. It is in evaluation mode, its numbers are normal.

    Layers, sizes, and the seed of the numbers shrink, and `repr` is Python source.
    """
    unknown = set(kinds or ()) - set(LAYER_KINDS)
    assert not unknown, f"no such layers: {', '.join(sorted(unknown))}"
    names = [name for name in LAYER_KINDS if kinds is None or name in kinds]
    columns: int = draw(_size)
    kind = st.one_of([LAYER_KINDS[name] for name in names])
    # A list that may be empty shrinks by any of its layers; one that must not does not lose its first.
    layers: list[Layer] = draw(st.lists(kind, max_size=max_layers)) or [draw(kind)]
    return Stack(columns, _narrow(columns, layers), seed=draw(st.integers(0, 255)))


def _narrow(columns: int, layers: list[Layer]) -> list[Layer]:
    """Without convolutions that would make rows too wide."""
    kept: list[Layer] = []
    for layer in layers:
        _, out = layer.build(columns)
        if out <= WIDEST:
            kept.append(layer)
            columns = out
    return kept or [BitLinear(columns)]
