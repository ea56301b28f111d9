"""Small pipelines in Verilator: every stream equals the interpreter's, whatever stalls, and in the cycles that were
predicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sterna.dialects.context import parse
from sterna.dialects.interpreter import run
from sterna.dialects.semantics.stream import PipelineInterpreter
from sterna.ir_text import print_ir
from sterna.targets.verilog.circuits import map_latencies
from sterna.targets.verilog.timing import schedule
from tests.stream_programs import SmallModel
from tests.verilog_designs import SimulatedDesign, pipeline_in, to_pipeline

pytestmark = pytest.mark.slow  # Verilator and a C++ compiler: ten seconds a design

MODEL = SmallModel()
TOKENS = [(1, 1, 0), (2, 0, 0), (3, 1, 1), (4, 0, 0), (5, 0, 1), (9, 0, 1), (0, 1, 0), (3, 0, 0)]


@pytest.mark.parametrize(
    ("interval", "design"), [(1, ""), (5, ""), (1000, ""), (40, "lut-ram"), (150, "lut-ram")]
)
def test_every_stream_equals_the_interpreter_whatever_stalls(interval: int, design: str, tmp_path: Path):
    module = to_pipeline(MODEL.module(), MODEL.weights(), interval=interval, sequences=2, design=design)
    simulated = SimulatedDesign.build(module, MODEL.weights(), tmp_path, stalls=True)
    simulated.check_every_stream(TOKENS)
    simulated.check_every_stream(TOKENS, gaps=100, pauses=20, seed=2)
    simulated.check_every_stream(TOKENS, gaps=20, pauses=200, seed=3)


@pytest.mark.parametrize(("interval", "design"), [(5, ""), (1000, ""), (150, "lut-ram")])
def test_every_beat_moves_in_the_cycle_that_was_predicted(interval: int, design: str, tmp_path: Path):
    module = to_pipeline(MODEL.module(), MODEL.weights(), interval=interval, design=design)
    simulated = SimulatedDesign.build(module, MODEL.weights(), tmp_path)
    beats, cycles = simulated.check_every_stream(TOKENS[:1])
    pipeline = pipeline_in(module)
    predicted = schedule(pipeline, np.zeros(1, np.int64), map_latencies(module, pipeline))
    assert cycles == predicted.finish
    for number, value in enumerate(simulated.traced.values()):
        (use,) = value.uses
        moved = [beat.cycle for beat in beats if beat.stream == number]
        assert moved == predicted.taken[use.operation, use.index].tolist()


@pytest.mark.parametrize("interval", [1, 4, 1000])
def test_pipeline_means_what_the_fixed_point_program_means(interval: int):
    program, weights = MODEL.module(), MODEL.weights()
    tokens = np.array([3, 1, 4, 1, 5, 9, 2], np.int64)
    logits, _ = run(program, [tokens, np.zeros(MODEL.inner, np.float32)], weights=weights)
    module = to_pipeline(program, weights, interval=interval)
    (found,) = PipelineInterpreter(module, weights).outputs(
        [tokens.reshape(-1, 1), np.zeros((7, 1), np.int64)]
    )
    assert (found == logits * 64).all()


def test_pipeline_prints_and_parses_back():
    text = print_ir(to_pipeline(MODEL.module(), MODEL.weights(), interval=4))
    assert print_ir(parse(text)) == text
