"""How each operation is drawn: a table of name -> recipe. A new operation is one entry in one of these files."""

from __future__ import annotations

from collections.abc import Callable

from sterna.testing.drawing import Drawing
from sterna.testing.recipes import cached, elementwise, reductions, shapes, ternary
from sterna.testing.recipes.idioms import IDIOMS

Recipe = Callable[[Drawing], None]

RECIPES: dict[str, Recipe] = {
    **elementwise.RECIPES,
    **shapes.RECIPES,
    **reductions.RECIPES,
    **ternary.RECIPES,
    **cached.RECIPES,
}
"""Every operation that the interpreter runs, but for fixed point. The plainest come first: failures shrink to them."""

ALL: dict[str, Recipe] = {**RECIPES, **IDIOMS}
