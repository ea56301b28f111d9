"""The trained model as hardware: its text in Verilator is the interpreter's, in the cycles that were predicted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
FEW_TOKENS = 12
ARRAYS = 15
BEGIN = 0


def simulated(
    folder: Path, options: dict[str, str], *, tokens: int, latency: int = 0
) -> tuple[list[int], list[int], float, dict[str, Any]]:
    """Greedy tokens of the design and of the interpreter, cycles a token, and the report."""
    target = configured_target("verilog", options)
    assert isinstance(target, ProjectTarget)
    imported = load_source(CHECKPOINT, None)
    lower(imported.module, imported.weights, target, calibration_tokens=tokens_for(target, imported))
    target.write_project(imported.module, imported.weights, folder, name="shakespeare", progress=no_progress)
    sources = sorted((folder / "rtl").glob("*.sv"))
    complaints = tools.lint("shakespeare", sources, folder)
    assert not complaints, complaints
    simulation = testbench.build("shakespeare", sources, folder / "testbench.cpp", folder, optimize=0)
    beats, cycles = simulation.run([(BEGIN, 1, 0)], generate=tokens - 1, memory_latency=latency)

    interpreter, token, expected = PipelineInterpreter(imported.module, imported.weights), BEGIN, list[int]()
    for n in range(tokens):
        (row,) = interpreter.outputs([np.array([[token]]), np.array([[int(n == 0)]])])
        token = int(row[0, 0])
        expected.append(token)
    report = json.loads((folder / "report.json").read_text())
    return [beat.data for beat in beats], expected, cycles / tokens, report


def test_greedy_text_of_the_trained_model_equals_the_interpreters(tmp_path: Path):
    found, expected, cycles, report = simulated(tmp_path, {"interval": "256"}, tokens=TOKENS)
    assert found == expected
    assert abs(cycles - report["cycles_per_token"]) <= 0.05 * report["cycles_per_token"]
    assert len(set(expected)) > 8, "text, not one token again and again"


def test_weights_from_outside_give_the_same_text(tmp_path: Path):
    """All arrays read the memory, which first answers at once, and then pauses and lets wait."""
    options = {"interval": "512", "weights": "external", "memory-width": "128"}
    found, expected, cycles, report = simulated(tmp_path, options, tokens=FEW_TOKENS, latency=8)
    assert found == expected
    assert abs(cycles - report["cycles_per_token"]) <= 0.05 * report["cycles_per_token"]
    memory = report["memory"]
    assert len(memory["regions"]) == ARRAYS
    assert memory["bytes_per_token"] == sum(region["bytes"] for region in memory["regions"])
    assert (tmp_path / memory["image"]).stat().st_size >= memory["bytes_per_token"]
    program = testbench.Simulation(tmp_path / "obj" / "simulate", tmp_path)
    beats, _ = program.run(
        [(BEGIN, 1, 0)], generate=5, memory_latency=60, memory_stalls=128, output_pauses=64
    )
    assert [beat.data for beat in beats] == expected[:6]


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
