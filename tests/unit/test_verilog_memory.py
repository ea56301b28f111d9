"""Weights in the memory outside the chip: where they are, that they come in order, and in which cycle."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sterna.dialects.context import make_context, parse
from sterna.dialects.errors import CompileError
from sterna.dialects.stream import regions_of, stage_name
from sterna.dialects.stream_types import RegionAttr
from sterna.ir_text import print_ir
from sterna.targets.verilog.circuits import map_latencies
from sterna.targets.verilog.convert_fixed_to_stream import ConvertFixedToStreamPass
from sterna.targets.verilog.estimate import estimate
from sterna.targets.verilog.external_memory import OutsideMemory, Packing, memory_image_of
from sterna.targets.verilog.fold_stages import FoldStagesPass
from sterna.targets.verilog.timing import schedule
from tests.stream_programs import SmallModel
from tests.verilog_designs import SimulatedDesign, pipeline_in, to_pipeline

MODEL = SmallModel(vocabulary=20, hidden=24, inner=48)
TOKENS = [(token % 20, int(token % 5 == 0), 0) for token in range(1, 13)]
READ_AHEAD = 400
"""Cycles in which all queues of weights fill up."""


@given(st.integers(1, 200), st.integers(1, 600), st.sampled_from([64, 128, 256, 512]), st.integers(0, 2**32))
def test_words_hold_all_steps_in_order(steps: int, codes: int, width: int, seed: int):
    values = np.random.default_rng(seed).integers(0, 4, (steps, codes))
    packed = Packing(steps, 2 * codes, width)
    data = packed.pack(values, 2)
    assert len(data) == packed.words * width // 8
    words = np.frombuffer(data, np.uint8).reshape(steps // packed.steps_a_word, -1)
    bits = np.unpackbits(words, axis=1, bitorder="little")
    used = bits[:, : packed.steps_a_word * packed.bits].reshape(steps, codes, 2)
    assert (used @ [1, 2] == values).all()
    assert not bits[:, packed.steps_a_word * packed.bits :].any()


def test_regions_lie_in_the_image_where_they_say():
    regions = {RegionAttr.of(4096, 3, 64, 32): b"b" * 24, RegionAttr.of(0, 2, 64, 32): b"a" * 16}
    image = memory_image_of(regions)
    assert len(image) == 8192 and image[:17] == b"a" * 16 + b"\0" and image[4096:4121] == b"b" * 24 + b"\0"


ARRAY = """
ternary.weight @w : tensor<6x8x!ternary.trit>
stream.pipeline @forward {
^bb0(%x: !stream.rows<8 by 4 : i8>, %context: !stream.rows<1 by 1 : i2>):
  %a = stream.array %x, @w design = "DESIGN" REGION : !stream.rows<8 by LANES : i8> -> !stream.rows<6 by 6 : i12>
  stream.yield %a : !stream.rows<6 by 6 : i12>
}
"""


@pytest.mark.parametrize(
    ("region", "complaint"),
    [
        ("<4095, 2 x 64, ahead = 32>", "a region begins on a page of 4096 bytes, not at 4095"),
        ("<0, 2 x 48, ahead = 32>", "a memory has 64, 128, 256 or 512 bits, not 48"),
        ("<0, 1 x 64, ahead = 32>", "weights of 96 bits are not in a region of 64"),
        ("<0, 0 x 64, ahead = 32>", "a region has a word or more"),
    ],
)
def test_a_wrong_region_is_one_line(region: str, complaint: str):
    text = ARRAY.replace("DESIGN", "adder-tree").replace("LANES", "4").replace("REGION", f"from {region}")
    with pytest.raises(CompileError, match=re.escape(complaint)):
        parse(text)


def test_regions_do_not_overlap():
    module = to_pipeline(MODEL.module(), MODEL.weights(), interval=64, outside="external")
    text = re.sub(r"from <\d+,", "from <0,", print_ir(module))
    with pytest.raises(CompileError, match="the regions at 0 and 0 overlap"):
        parse(text)


def test_pipeline_with_regions_prints_and_parses_back():
    text = print_ir(to_pipeline(MODEL.module(), MODEL.weights(), interval=64, outside="external"))
    assert text.count(" from <") == 3 and print_ir(parse(text)) == text


def folded(**options: int | str) -> tuple[FoldStagesPass, int]:
    """The pass, and the interval that it chooses for the model."""
    module = MODEL.module()
    ctx = make_context(MODEL.weights())
    ConvertFixedToStreamPass().apply(ctx, module)
    chosen = FoldStagesPass(**options)  # pyright: ignore[reportArgumentType]
    return chosen, chosen.choose(module, pipeline_in(module), chosen.goal())


def test_a_model_that_fits_stays_on_the_chip():
    interval = folded(weights="auto")[1]
    assert interval == folded(weights="on-chip")[1]
    module = to_pipeline(MODEL.module(), MODEL.weights(), interval=interval, outside="auto")
    assert not regions_of(pipeline_in(module))


def test_what_does_not_fit_goes_outside_and_no_more():
    inside = estimate(
        m := to_pipeline(MODEL.module(), MODEL.weights(), interval=1000), pipeline_in(m), "ecp5"
    )
    blocks = int(inside.resources.bram)
    with pytest.raises(CompileError, match=f"it takes {blocks} BRAM of {blocks - 1}"):
        folded(weights="on-chip", bram=blocks - 1)
    assert folded(weights="auto", bram=blocks - 1)[1] >= 1
    with pytest.raises(CompileError, match="the model does not fit"):
        folded(weights="auto", bram=1)


def test_an_interval_is_no_shorter_than_the_memory_allows():
    module = to_pipeline(MODEL.module(), MODEL.weights(), interval=16, outside="external")
    pipeline = pipeline_in(module)
    words = sum(region.beats.data for region in regions_of(pipeline).values())
    predicted = estimate(module, pipeline, "ecp5")
    assert predicted.interval == predicted.memory_words == words > 16


@pytest.mark.slow  # Verilator and a C++ compiler: ten seconds a design
@pytest.mark.parametrize(
    ("interval", "width", "design", "kept"),
    [(24, 64, "", ["i_proj"]), (200, 128, "", []), (1152, 64, "", ["head"]), (150, 64, "lut-ram", [])],
)
def test_every_stream_equals_the_interpreter_whatever_the_memory_does(
    interval: int, width: int, design: str, kept: list[str], tmp_path: Path
):
    module = to_pipeline(
        MODEL.module(),
        MODEL.weights(),
        interval=interval,
        outside="external",
        memory=OutsideMemory(width),
        design=design,
    )
    for op in regions_of(pipeline_in(module)):
        if stage_name(op) in kept:
            del op.properties["region"]
    simulated = SimulatedDesign.build(module, MODEL.weights(), tmp_path, stalls=True)
    simulated.check_every_stream(TOKENS)
    simulated.check_every_stream(TOKENS, gaps=100, pauses=20, seed=2, latency=100, memory_stalls=60)
    simulated.check_every_stream(TOKENS, gaps=20, pauses=100, seed=3, latency=3, memory_stalls=240)


@pytest.mark.slow  # Verilator and a C++ compiler: ten seconds a design
def test_cycles_are_those_of_weights_on_the_chip_where_the_memory_is_fast_enough(tmp_path: Path):
    module = to_pipeline(MODEL.module(), MODEL.weights(), interval=96, outside="external")
    inside = to_pipeline(MODEL.module(), MODEL.weights(), interval=96)
    design = SimulatedDesign.build(module, MODEL.weights(), tmp_path)
    for latency in (0, 12):
        beats, cycles = design.check_every_stream(TOKENS[:1], wait=READ_AHEAD, latency=latency)
        for each in (module, inside):
            pipeline = pipeline_in(each)
            predicted = schedule(pipeline, np.zeros(1, np.int64), map_latencies(each, pipeline))
            assert cycles == predicted.finish + READ_AHEAD
        predicted = schedule(
            pipeline_in(module), np.zeros(1, np.int64), map_latencies(module, pipeline_in(module))
        )
        for number, value in enumerate(design.traced.values()):
            (use,) = value.uses
            moved = [beat.cycle - READ_AHEAD for beat in beats if beat.stream == number]
            assert moved == predicted.taken[use.operation, use.index].tolist()


@pytest.mark.slow  # Verilator and a C++ compiler: ten seconds a design
def test_cycles_are_within_five_percent_where_the_memory_limits(tmp_path: Path):
    model = SmallModel(vocabulary=64, hidden=96, inner=96)
    module = to_pipeline(model.module(), model.weights(), interval=96, outside="external")
    predicted = estimate(module, pipeline_in(module), "ecp5")
    inside = to_pipeline(model.module(), model.weights(), interval=96)
    assert predicted.token_cycles > 1.5 * estimate(inside, pipeline_in(inside), "ecp5").token_cycles
    design = SimulatedDesign.build(module, model.weights(), tmp_path)
    _, cycles = design.check_every_stream([(1, 1, 0)], wait=READ_AHEAD)
    assert abs(cycles - READ_AHEAD - predicted.token_cycles) < 0.05 * predicted.token_cycles
