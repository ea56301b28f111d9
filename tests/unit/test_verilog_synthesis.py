"""A small model through the real tools: no warning, about what was estimated, a placed clock; `make simulate`."""

from __future__ import annotations

import json
import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from sterna.dialects.errors import CompileError
from sterna.progress import no_progress
from sterna.targets.verilog import tools
from sterna.targets.verilog.design import print_design
from sterna.targets.verilog.estimate import estimate
from sterna.targets.verilog.project import write_project
from sterna.targets.verilog.settings import OPTIONS, Settings
from sterna.targets.verilog.synthesis import place
from tests.stream_programs import SmallModel
from tests.verilog_designs import pipeline_in, to_pipeline

MODEL = SmallModel(hidden=4, inner=4, vocabulary=4)


def settings(**chosen: str) -> Settings:
    return Settings.of({option.name: option.default for option in OPTIONS} | chosen)


@pytest.mark.slow  # synthesis, placing, and a C++ compiler: a minute
def test_a_project_is_synthesized_placed_and_simulated(tmp_path: Path):
    module = to_pipeline(MODEL.module(), MODEL.weights(), interval=1000, output="tokens")
    write_project(
        module,
        MODEL.weights(),
        tmp_path,
        settings(synthesis="nextpnr"),
        name="small-model",
        progress=no_progress,
    )
    report = json.loads((tmp_path / "report.json").read_text())
    predicted, found = report["estimate"], report["synthesis"]
    assert found["warnings"] == []
    assert found["placed"]["fmax_mhz"] > 20
    assert (tmp_path / found["placed"]["config"]).stat().st_size > 1000
    measured = found["resources"]
    assert measured["dsp"] <= predicted["dsp"] and measured["bram"] <= predicted["bram"]
    for resource in ("lut", "ff"):
        assert 0.5 < predicted[resource] / measured[resource] < 2, (resource, predicted, measured)
    text = (tmp_path / "report.md").read_text()
    assert "synthesis (Yosys)" in text and f"placed at {found['placed']['fmax_mhz']:.1f} MHz" in text

    path = f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"
    made = subprocess.run(
        ["make", "simulate"],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    assert "equal" in made.stdout.splitlines(), made.stdout


@pytest.mark.slow  # synthesis for three families
@pytest.mark.parametrize("family", ["ecp5", "xc7", "xcup"])
def test_arrays_have_no_multiplier(family: str, tmp_path: Path):
    sources = [tools.LIBRARY / "ternary_adder_tree.sv"]
    found = tools.synthesize("ternary_adder_tree", sources, family, tmp_path)  # pyright: ignore[reportArgumentType]
    assert found.resources.dsp == 0 and found.resources.lut > 0 and found.warnings == ()


@pytest.mark.slow  # synthesis: half a minute
def test_a_design_that_reads_memory_outside_is_synthesized(tmp_path: Path):
    weights = MODEL.weights()
    module = to_pipeline(MODEL.module(), weights, interval=1000, output="tokens", outside="external")
    design = print_design(module, weights, top="model", adders="carry chains")
    found = tools.synthesize("model", design.write(tmp_path), "ecp5", tmp_path)
    predicted = estimate(module, pipeline_in(module), "ecp5").resources
    assert found.warnings == () and found.parts["weight_reader"].ff > 0
    assert found.resources.dsp == predicted.dsp
    assert 0.5 < predicted.lut / found.resources.lut < 2 and 0.5 < predicted.ff / found.resources.ff < 2


def test_what_a_tool_refuses_is_one_line(tmp_path: Path):
    source = tmp_path / "broken.sv"
    source.write_text("module broken (input logic clock;\nendmodule\n")
    with pytest.raises(CompileError, match="Yosys failed with exit code") as raised:
        tools.synthesize("broken", [source], "ecp5", tmp_path)
    assert "\n" not in str(raised.value)
    (tmp_path / "netlist.json").write_text("{}")
    with pytest.raises(CompileError, match="nextpnr failed with exit code") as raised:
        place("broken", tmp_path, 50)
    assert "\n" not in str(raised.value)
