"""The published 2.7B shape goes through all passes as text: no numbers, so it is quick and small."""

from __future__ import annotations

from time import process_time

import pytest

from sterna.dialects.context import make_context, parse
from sterna.passes import PASSES
from tests.raised_models import PIPELINE, RaisedModel

MODEL_2_7B = {"layers": 32, "hidden": 2560, "mlp": 6912, "vocabulary": 32000}


@pytest.mark.slow
def test_the_2_7b_model_is_small_and_quick_at_every_stage() -> None:
    """Slow: the text of every stage is printed."""
    module = parse(RaisedModel(**MODEL_2_7B).text())
    ctx = make_context()
    seconds = 0.0
    for name in PIPELINE:
        start = process_time()
        PASSES[name]().apply(ctx, module)
        seconds += process_time() - start
        assert len(str(module)) < 2e6, name
    module.verify()
    assert seconds < 10
    assert str(module).count("func.call @layer_0") == 31
