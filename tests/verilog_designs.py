"""From a fixed-point program to a simulated design, and every stream in it against the interpreter."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from sterna.dialects.context import make_context
from sterna.dialects.semantics.stream import PipelineInterpreter
from sterna.dialects.stream import FifoOp, PipelineOp, pipeline_of
from sterna.dialects.stream_types import rows_type
from sterna.dialects.weights import WeightStore
from sterna.targets.verilog import testbench, tools
from sterna.targets.verilog.buffer_streams import BufferStreamsPass
from sterna.targets.verilog.convert_fixed_to_stream import ConvertFixedToStreamPass
from sterna.targets.verilog.design import print_design
from sterna.targets.verilog.external_memory import OutsideMemory, Placement
from sterna.targets.verilog.fold_stages import FoldStagesPass
from sterna.targets.verilog.place_weights import PlaceWeightsPass
from sterna.targets.verilog.stages.top import TopPrinter, top_ports
from sterna.targets.verilog.testbench import Beat, Simulation

Rows = npt.NDArray[np.int64]

MEMORY = OutsideMemory()


def to_pipeline(
    module: ModuleOp,
    weights: WeightStore,
    *,
    interval: int,
    output: str = "logits",
    sequences: int = 1,
    outside: Placement = "on-chip",
    memory: OutsideMemory = MEMORY,
    design: str = "",
) -> ModuleOp:
    """A copy of the module, folded and buffered."""
    copy, ctx = module.clone(), make_context(weights)
    for each in (
        ConvertFixedToStreamPass(output=output, sequences=sequences),
        FoldStagesPass(interval=interval, design=design),
        PlaceWeightsPass(outside, memory.width, memory.latency, sequences=sequences),
        BufferStreamsPass(),
    ):
        each.apply(ctx, copy)
        copy.verify()
    return copy


def pipeline_in(module: ModuleOp) -> PipelineOp:
    pipeline = pipeline_of(list(module.ops))
    assert pipeline is not None
    return pipeline


@dataclass
class SimulatedDesign:
    """A design whose testbench records what passes through every queue."""

    module: ModuleOp
    weights: WeightStore
    simulation: Simulation
    traced: dict[str, SSAValue]

    @staticmethod
    def build(
        module: ModuleOp, weights: WeightStore, folder: Path, *, stalls: bool = False
    ) -> SimulatedDesign:
        pipeline = pipeline_in(module)
        design = print_design(module, weights, top="model", adders="carry chains")
        sources = design.write(folder)
        complaints = tools.lint("model", sources, folder)
        assert not complaints, complaints
        printer = TopPrinter(pipeline, "model")
        printer.print()
        queues = [op.result for op in pipeline.body.block.ops if isinstance(op, FifoOp)]
        traced = {printer.names[value]: value for value in queues}
        bits = {name: rows_type(value).bits for name, value in traced.items()}
        bench, control = folder / "testbench.cpp", folder / "control.vlt"
        bench.write_text(testbench.testbench_text("model", top_ports(pipeline), bits))
        control.write_text(testbench.control_text("model", list(bits)))
        simulation = testbench.build(
            "model", sources, bench, folder, stalls=stalls, control=control, optimize=0
        )
        return SimulatedDesign(module, weights, simulation, traced)

    def check_every_stream(
        self,
        tokens: Sequence[tuple[int, int, int]],
        *,
        gaps: int = 0,
        pauses: int = 0,
        seed: int = 1,
        wait: int = 0,
        latency: int = 0,
        memory_stalls: int = 0,
    ) -> tuple[list[Beat], int]:
        """All that passes through every queue is what the interpreter says; the beats, and the cycles."""
        beats, cycles = self.simulation.run(
            tokens,
            input_gaps=gaps,
            output_pauses=pauses,
            seed=seed,
            wait=wait,
            memory_latency=latency,
            memory_stalls=memory_stalls,
        )
        given = np.array([token for token, _, _ in tokens]).reshape(-1, 1)
        context = np.array([2 * sequence + starts for _, starts, sequence in tokens]).reshape(-1, 1)
        streams = PipelineInterpreter(self.module, self.weights).run([given, context])
        passed: dict[int, list[int]] = defaultdict(list)
        for beat in beats:
            passed[beat.stream].append(beat.data)
        for number, (name, value) in enumerate(self.traced.items()):
            mask = (1 << rows_type(value).width) - 1
            assert elements(passed[number], value) == (streams[value].reshape(-1) & mask).tolist(), name
        return beats, cycles


def elements(words: Sequence[int], value: SSAValue) -> list[int]:
    """The bits of every element of beats."""
    type = rows_type(value)
    mask = (1 << type.width) - 1
    return [word >> (lane * type.width) & mask for word in words for lane in range(type.lanes.data)]
