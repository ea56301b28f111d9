"""What a module means at any stage, on the arrays of its model's entry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.semantics.stream import PipelineInterpreter
from sterna.dialects.stream import pipeline_of
from sterna.dialects.weights import WeightStore
from sterna.testing.subjects import Interpreted

Array = npt.NDArray[Any]
Arrays = Sequence[Array]


def is_pipeline(module: ModuleOp) -> bool:
    return pipeline_of(list(module.ops)) is not None


def results_of(module: ModuleOp, weights: WeightStore, inputs: Arrays) -> Arrays:
    """Of a function, its results; of a pipeline, which begins with states of zero, the likeliest token of every row."""
    if not is_pipeline(module):
        return Interpreted(module, weights).run(inputs)
    tokens = np.asarray(inputs[0], np.int64).reshape(-1, 1)
    begins = np.zeros_like(tokens)
    begins[:1] = 1
    return PipelineInterpreter(module, weights).outputs([tokens, begins])


def chosen(results: Arrays) -> Arrays:
    """The likeliest tokens of a language model's results, as a pipeline gives them."""
    logits = results[0]
    return (logits.reshape(-1, logits.shape[-1]).argmax(-1).reshape(-1, 1),)
