"""The shipped checkpoint, compiled once for all tests of a worker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from shakespeare import CHECKPOINT, PROMPTS, Planned

import sterna
from sterna import api
from sterna.lowering import lower
from sterna.model import CompiledModel
from sterna.plugins import find_target


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    return CHECKPOINT


@pytest.fixture(scope="session")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "shakespeare.sterna"
    api.build(CHECKPOINT, path)
    return path


@pytest.fixture(scope="session")
def model(artifact: Path) -> CompiledModel:
    return sterna.load(artifact)


@pytest.fixture(scope="session")
def planned() -> Planned:
    """The program at its last stage in the IR, for the interpreter."""
    imported = api.load_source(CHECKPOINT, None)
    lower(imported.module, imported.weights, find_target("cpu"))
    return Planned(imported.module, imported.weights)


@pytest.fixture(scope="session")
def text_tokens(model: CompiledModel) -> npt.NDArray[np.int64]:
    """Three dozen tokens of a prompt and what the model makes of it."""
    generation = model.generate(PROMPTS[0], max_new_tokens=33, temperature=0.0)
    return np.array(generation.prompt_tokens + generation.tokens, np.int64)
