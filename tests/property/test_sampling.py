"""Sampling against its definition, on any logits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sterna.sampling import GREEDY, Sampling, SamplingError, choose, distribution

Logits = npt.NDArray[np.float32]

# Few distinct values make many ties.
values = st.one_of(
    st.sampled_from([0.0, -1.0, 2.5, -np.inf, 3e38]),
    st.floats(-50, 50, width=32),
    st.floats(width=32, allow_nan=False, allow_infinity=False),
)
some_logits = hnp.arrays(np.float32, st.integers(1, 40), elements=values).filter(
    lambda x: bool(x.max() > -np.inf)
)
temperatures = st.one_of(st.sampled_from([1.0, 0.8, 1e-300, 1e300]), st.floats(0.01, 10))
samplings = st.builds(
    Sampling,
    temperature=temperatures,
    top_k=st.none() | st.integers(1, 50),
    top_p=st.none() | st.floats(0, 1, exclude_min=True),
    seed=st.integers(0, 2**32),
)


def ranking(x: Logits) -> list[int]:
    """Tokens by falling logit, the lower token first among equals."""
    return sorted(range(len(x)), key=lambda token: (-x[token], token))


@given(some_logits)
def test_greedy_takes_the_first_of_the_largest(x: Logits) -> None:
    assert choose(x, GREEDY, GREEDY.generator()) == ranking(x)[0]


@given(some_logits, samplings)
def test_what_is_kept_is_a_prefix_of_the_ranking(x: Logits, sampling: Sampling) -> None:
    tokens, probabilities = distribution(x, sampling)
    assert tokens.tolist() == ranking(x)[: len(tokens)]
    assert (np.diff(probabilities) <= 0).all()
    assert probabilities.sum() == pytest.approx(1.0)
    assert len(tokens) <= (sampling.top_k or len(x))


@given(some_logits, temperatures, st.floats(0, 1, exclude_min=True))
def test_top_p_keeps_the_fewest_tokens_that_reach_it(x: Logits, temperature: float, top_p: float) -> None:
    _, everything = distribution(x, Sampling(temperature))
    kept = len(distribution(x, Sampling(temperature, top_p=top_p))[0])
    assert everything[: kept - 1].sum() < top_p or kept == 1
    assert everything[:kept].sum() >= top_p or everything[:kept].sum() == pytest.approx(top_p)


@given(some_logits, samplings)
def test_a_seed_gives_the_same_choices(x: Logits, sampling: Sampling) -> None:
    a, b = sampling.generator(), sampling.generator()
    assert [choose(x, sampling, a) for _ in range(5)] == [choose(x, sampling, b) for _ in range(5)]


@given(some_logits, samplings)
def test_a_choice_has_a_chance(x: Logits, sampling: Sampling) -> None:
    tokens, probabilities = distribution(x, sampling)
    assert choose(x, sampling, sampling.generator()) in tokens[probabilities > 0]


@given(some_logits, st.integers(0, 99))
def test_top_k_of_one_is_greedy(x: Logits, seed: int) -> None:
    sampling = Sampling(temperature=1.0, top_k=1, seed=seed)
    assert choose(x, sampling, sampling.generator()) == choose(x, GREEDY, GREEDY.generator())


def test_frequencies_follow_the_probabilities() -> None:
    x = np.log(np.array([0.5, 0.25, 0.125, 0.125], np.float32))
    sampling = Sampling(temperature=1.0, seed=3)
    generator = sampling.generator()
    counts = np.bincount([choose(x, sampling, generator) for _ in range(4000)], minlength=4)
    assert np.abs(counts / 4000 - [0.5, 0.25, 0.125, 0.125]).max() < 0.03


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("top_k", 0),
        ("top_p", 0.0),
        ("top_p", 1.5),
        ("seed", -1),
    ],
)
def test_a_parameter_outside_its_range_is_named(field: str, value: float) -> None:
    with pytest.raises(SamplingError, match=field):
        Sampling(**{field: value})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("x", [[], [np.nan, 1.0], [-np.inf, -np.inf]])
def test_logits_without_a_likeliest_token_are_an_error(x: list[float]) -> None:
    with pytest.raises(SamplingError, match="no likeliest token"):
        distribution(np.array(x, np.float32), Sampling())
