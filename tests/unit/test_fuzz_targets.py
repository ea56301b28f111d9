"""The fuzz targets themselves: seeds are met as valid files, and some changes of each run here."""

from __future__ import annotations

import pytest

from tests.fuzz.findings import time_limit
from tests.fuzz.mutations import mutate_tokens
from tests.fuzz.targets import SECONDS, TARGETS

READERS = [name for name in TARGETS if name != "opt"]
"""Every seed of these is a valid file; `sterna-opt` refuses some pipelines on some programs."""

MUTATIONS = 60


@pytest.mark.parametrize("name", READERS)
def test_seeds_are_valid(name: str) -> None:
    for seed in TARGETS[name].seeds():
        TARGETS[name].run(seed)


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "manifest"])
def test_changed_files_are_read_or_refused(name: str) -> None:
    seeds = TARGETS[name].seeds()
    for number in range(MUTATIONS):
        mutate = TARGETS[name].mutate or mutate_tokens
        data = mutate(seeds[number % len(seeds)], number)
        with time_limit(SECONDS):
            TARGETS[name](data)


def test_mutations_are_the_same_for_the_same_seed() -> None:
    data = b"func.func @f(%x : tensor<4xf32>)"
    assert [mutate_tokens(data, n) for n in range(9)] == [mutate_tokens(data, n) for n in range(9)]
    assert len({mutate_tokens(data, n) for n in range(50)}) > 40
