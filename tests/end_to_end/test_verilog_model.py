"""The trained model as hardware: its text in Verilator is the interpreter's, in the cycles that were predicted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sterna.api import load_source
from sterna.calibration import tokens_for
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.dialects.semantics.stream import PipelineInterpreter
from sterna.lowering import lower, lower_until
from sterna.plugins import configured_target
from sterna.progress import no_progress
from sterna.targets import ProjectTarget
from sterna.targets.verilog import testbench, tools

pytestmark = pytest.mark.slow  # a whole model through Verilator and a C++ compiler: more than a minute

CHECKPOINT = Path(__file__).parents[2] / "examples/checkpoints/matmulfree-shakespeare-small"
TOKENS = 110
BEGIN = 0


def test_greedy_text_of_the_trained_model_equals_the_interpreters(tmp_path: Path):
    target = configured_target("verilog", {"interval": "256"})
    assert isinstance(target, ProjectTarget)
    imported = load_source(CHECKPOINT, None)
    lower(imported.module, imported.weights, target, calibration_tokens=tokens_for(target, imported))
    target.write_project(
        imported.module, imported.weights, tmp_path, name="shakespeare", progress=no_progress
    )
    sources = sorted((tmp_path / "rtl").glob("*.sv"))
    complaints = tools.lint("shakespeare", sources, tmp_path)
    assert not complaints, complaints
    simulation = testbench.build("shakespeare", sources, tmp_path / "testbench.cpp", tmp_path, optimize=0)
    beats, cycles = simulation.run([(BEGIN, 1, 0)], generate=TOKENS - 1)
    found = [beat.data for beat in beats]

    interpreter, token, expected = PipelineInterpreter(imported.module, imported.weights), BEGIN, list[int]()
    for n in range(TOKENS):
        (row,) = interpreter.outputs([np.array([[token]]), np.array([[int(n == 0)]])])
        token = int(row[0, 0])
        expected.append(token)
    assert found == expected

    report = json.loads((tmp_path / "report.json").read_text())
    assert abs(cycles / TOKENS - report["cycles_per_token"]) <= 0.05 * report["cycles_per_token"]
    assert len(set(expected)) > 8, "text, not one token again and again"


def test_pipeline_of_the_trained_model_is_its_fixed_point_program():
    target = configured_target("verilog", {"interval": "256", "result": "logits"})
    tokens = np.array([BEGIN, 72, 69, 76, 76, 79, 10, 84, 72, 69], np.int64)
    imported = load_source(CHECKPOINT, None)
    calibration = tokens_for(target, imported)
    lower_until(imported.module, imported.weights, target, "to-fixed-point", calibration_tokens=calibration)
    states = [np.zeros(128, np.float32)] * 2
    logits, *_ = ModuleInterpreter(imported.module, imported.weights).run([tokens, *states])

    streamed = load_source(CHECKPOINT, None)
    lower(streamed.module, streamed.weights, target, calibration_tokens=calibration)
    interpreter = PipelineInterpreter(streamed.module, streamed.weights)
    (found,) = interpreter.outputs([tokens.reshape(-1, 1), np.zeros((len(tokens), 1), np.int64)])
    point = interpreter.pipeline.attributes["point"]
    assert (found * 2.0**-point.value.data == logits).all()  # pyright: ignore
