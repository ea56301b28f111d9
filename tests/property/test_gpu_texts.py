"""Several texts at once give what each gives alone, bit for bit: prompts, steps, states, under Triton's interpreter.

Slow: Triton's interpreter takes milliseconds an operation of a program.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sterna.api import load_source
from sterna.dialects.weights import RandomStore
from sterna.frontends.checkpoint import import_bitnet, import_hgrn_bit
from sterna.frontends.models.hgrn_bit_config import HGRNBitConfig
from tests.bitnet_checkpoints import ONLINE
from tests.gpu_texts import Texts, emit

pytestmark = pytest.mark.slow

TIMING = """time_of.calls = getattr(time_of, "calls", 0) + 1
    for _ in range(time_of.calls):
        call()
    return time_of.calls"""
"""In place of a measurement, which takes a GPU."""

CHECKPOINT = Path(__file__).parents[2] / "examples" / "checkpoints" / "matmulfree-shakespeare"


@pytest.fixture(scope="module")
def texts() -> Iterator[Texts]:
    started = Texts()
    yield started
    started.close()


@settings(
    max_examples=3,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],  # to shrink a model would take an hour here
)
@given(data=st.data())
def test_a_text_among_others_is_the_text_alone(texts: Texts, data: st.DataObject) -> None:
    config = HGRNBitConfig(
        vocab_size=data.draw(st.integers(3, 40)),
        hidden_size=data.draw(st.sampled_from((16, 24))),
        num_hidden_layers=data.draw(st.integers(1, 2)),
        intermediate_size=data.draw(st.sampled_from((16, 40))),
        use_lower_bound=data.draw(st.booleans()),
        bos_token_id=None,
        eos_token_id=None,
    )
    count, length = data.draw(st.integers(2, 6)), data.draw(st.integers(1, 5))
    row = st.lists(st.integers(0, config.vocab_size - 1), min_size=length, max_size=length)
    tokens = data.draw(st.lists(row, min_size=count, max_size=count))
    with TemporaryDirectory() as folder:
        model = emit(import_hgrn_bit(config), RandomStore(config.tensor_shapes()), Path(folder))
        assert texts.differences(model, tokens, steps=data.draw(st.integers(0, 2))) == []


def test_texts_of_the_shipped_model(texts: Texts, tmp_path: Path) -> None:
    imported = load_source(CHECKPOINT, None)
    model = emit(imported.module, imported.weights, tmp_path)
    assert texts.differences(model, [[1, 50], [2, 900]], steps=1) == []


def test_tuning_leaves_the_states_as_they_were(texts: Texts, tmp_path: Path) -> None:
    """It launches a kernel that writes a state over the last one many times, here more often from time to time."""
    config = HGRNBitConfig(vocab_size=7, hidden_size=16, num_hidden_layers=1, intermediate_size=16)
    model = emit(import_hgrn_bit(config), RandomStore(config.tensor_shapes()), tmp_path)
    text = (model / "kernels.py").read_text()
    edits = {
        '[triton.Config({"CHANNELS": 256, "TILES": 4, "SPLIT": 1})]': "[FEW[0], FEW[4]]",
        "return triton.testing.do_bench(call, warmup=5, rep=20, quantiles=quantiles)": TIMING,
    }
    for found, put in edits.items():
        assert text.count(found) == 1
        text = text.replace(found, put)
    (model / "kernels.py").write_text(text)
    assert texts.differences(model, [[1], [5]], steps=2) == []


def test_texts_of_a_transformer_alone_and_together_take_different_kernels(
    texts: Texts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sterna.targets.triton.attention.FEW_ROWS", 3)
    config = replace(ONLINE, num_hidden_layers=1, num_key_value_heads=1)
    imported = import_bitnet(config, context=24)
    model = emit(imported, RandomStore(config.tensor_shapes()), tmp_path)
    assert "if batch.length == 1 or batch.rows <= 3:" in (model / "kernels.py").read_text()
    assert texts.differences(model, [[1, 50, 7], [2, 40, 3]], steps=1) == []


def test_of_equal_logits_the_first_is_the_likeliest(texts: Texts) -> None:
    """A program compares 1024 at a time, and the last of a vocabulary are fewer."""
    logits = np.full((4, 2500), -3.0, np.float32)
    logits[0, [5, 1029, 1030]] = -1
    logits[1, [2000, 2499]] = -1
    logits[2, 2499] = -1
    assert texts.likeliest(logits.tolist()) == logits.argmax(axis=1).tolist() == [5, 2000, 2499, 0]
