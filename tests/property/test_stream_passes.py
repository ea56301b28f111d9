"""Small models of any size, folded in any way: the pipeline means the fixed-point program, and its hardware means it
too."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sterna.dialects.interpreter import run
from sterna.dialects.semantics.stream import PipelineInterpreter
from sterna.dialects.stream import FifoOp, LanesOp, YieldOp, regions_of, stage_name
from sterna.targets.verilog.circuits import map_latencies
from sterna.targets.verilog.external_memory import PLACEMENTS, Placement
from sterna.targets.verilog.timing import interval, schedule
from sterna.verification.stages import chosen, is_pipeline, results_of
from tests.stream_programs import MODELS, SmallModel
from tests.verilog_designs import SimulatedDesign, pipeline_in, to_pipeline

INTERVALS = st.integers(1, 200)
DESIGNS = st.sampled_from(["", "adder-tree", "lut-ram", "folded", "shared-sums"])


@settings(deadline=None, max_examples=25)
@given(MODELS, INTERVALS, DESIGNS, st.sampled_from(PLACEMENTS), st.integers(0, 99))
def test_pipeline_means_what_the_program_means(
    model: SmallModel, cycles: int, design: str, outside: Placement, seed: int
):
    program, weights = model.module(), model.weights()
    tokens = np.random.default_rng(seed).integers(0, model.vocabulary, 5)
    logits, _ = run(program, [tokens, np.zeros(model.inner, np.float32)], weights=weights)
    module = to_pipeline(program, weights, interval=cycles, design=design, outside=outside)
    (found,) = PipelineInterpreter(module, weights).outputs(
        [tokens.reshape(-1, 1), np.zeros((5, 1), np.int64)]
    )
    assert (found == logits * 64).all()


def test_verification_compares_a_pipeline_by_its_likeliest_tokens():
    """As `sterna verify` runs a pass whose result is a pipeline."""
    model = SmallModel()
    program, weights = model.module(), model.weights()
    pipeline = to_pipeline(model.module(), weights, interval=20)
    inputs = [np.arange(model.vocabulary), np.zeros(model.inner, np.float32)]
    (expected,) = chosen(results_of(program, weights, inputs))
    (found,) = chosen(results_of(pipeline, weights, inputs))
    assert is_pipeline(pipeline) and not is_pipeline(program)
    assert len(np.unique(expected)) > 1 and np.array_equal(found, expected)


@settings(deadline=None, max_examples=25)
@given(MODELS, INTERVALS, DESIGNS)
def test_no_queue_holds_more_than_its_depth(model: SmallModel, cycles: int, design: str):
    module = to_pipeline(model.module(), model.weights(), interval=cycles, design=design)
    pipeline = pipeline_in(module)
    timed = schedule(pipeline, np.zeros(1, np.int64), map_latencies(module, pipeline))
    for op in pipeline.body.block.ops:
        if isinstance(op, FifoOp):
            (use,) = op.result.uses
            gone = np.searchsorted(timed.taken[use.operation, use.index], timed.made[op.x])
            assert (np.arange(1, len(gone) + 1) - gone).max() <= op.depth.value.data
        elif not isinstance(op, LanesOp | YieldOp):
            # A recurrence of few beats waits for its own state, and tables fill.
            assert interval(op) <= max(cycles, 28 if design == "lut-ram" else 6)


@pytest.mark.slow  # Verilator and a C++ compiler: ten seconds an example
@settings(deadline=None, max_examples=3)
@given(MODELS, INTERVALS, DESIGNS, st.integers(1, 99))
def test_hardware_means_what_the_pipeline_means(model: SmallModel, cycles: int, design: str, seed: int):
    module = to_pipeline(model.module(), model.weights(), interval=cycles, sequences=2, design=design)
    rng = np.random.default_rng(seed)
    tokens = [
        (int(rng.integers(model.vocabulary)), int(rng.random() < 0.3), int(rng.integers(2))) for _ in range(6)
    ]
    with tempfile.TemporaryDirectory() as folder:
        simulated = SimulatedDesign.build(module, model.weights(), Path(folder), stalls=True)
        simulated.check_every_stream(
            tokens, gaps=int(rng.integers(200)), pauses=int(rng.integers(200)), seed=seed
        )


@pytest.mark.slow  # Verilator and a C++ compiler: ten seconds an example
@settings(deadline=None, max_examples=3)
@given(
    MODELS, st.integers(30, 300), st.sets(st.sampled_from(["f_proj", "i_proj", "head"])), st.integers(1, 99)
)
def test_hardware_means_the_same_with_weights_outside(
    model: SmallModel, cycles: int, kept: set[str], seed: int
):
    """Some arrays read a memory outside, which answers when it likes."""
    module = to_pipeline(model.module(), model.weights(), interval=cycles, outside="external")
    for op in regions_of(pipeline_in(module)):
        if stage_name(op) in kept:
            del op.properties["region"]
    rng = np.random.default_rng(seed)
    tokens = [(int(rng.integers(model.vocabulary)), int(rng.random() < 0.3), 0) for _ in range(20)]
    with tempfile.TemporaryDirectory() as folder:
        design = SimulatedDesign.build(module, model.weights(), Path(folder), stalls=True)
        for latency, stalls in ((int(rng.integers(100)), int(rng.integers(250))), (0, 0)):
            design.check_every_stream(
                tokens, gaps=int(rng.integers(200)), seed=seed, latency=latency, memory_stalls=stalls
            )
