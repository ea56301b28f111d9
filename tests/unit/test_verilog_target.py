"""Options of the target, the choice of folding, what is wrong in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sterna.cli import main
from sterna.dialects.context import make_context, parse
from sterna.dialects.errors import CompileError
from sterna.plugins import configured_target
from sterna.targets.verilog.arrays.costs import array_cost
from sterna.targets.verilog.convert_fixed_to_stream import ConvertFixedToStreamPass
from sterna.targets.verilog.estimate import estimate
from sterna.targets.verilog.fold_array import cheapest, fewest_products
from sterna.targets.verilog.fold_stages import FoldStagesPass, fewest_lanes
from sterna.targets.verilog.stages.module import identifier, literal, memory_image
from tests.stream_programs import SmallModel
from tests.verilog_designs import pipeline_in, to_pipeline

MODEL = SmallModel()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"device": "ecp5-25k"}, "unknown device 'ecp5-25k', expected one of: ecp5-85k"),
        ({"budget": "lut=many"}, "--budget is of the form lut=N,ff=N,bram=N,dsp=N, not 'lut=many'"),
        ({"clock": "fast"}, "--clock is a number of MHz, as 100MHz, not 'fast'"),
        ({"goal": "7"}, "--goal is of the form tokens_per_s=N, not '7'"),
        ({"sequences": "0"}, "--sequences is a number from 1, not '0'"),
        ({"result": "text"}, "--result is one of tokens, logits, not 'text'"),
        ({"weights": "nowhere"}, "--weights is one of auto, on-chip, external, not 'nowhere'"),
        ({"memory-width": "48"}, "--memory-width is one of 64, 128, 256, 512, not '48'"),
        ({"memory-latency": "5000"}, "the memory's latency is 1 to 1024 cycles, not 5000"),
        ({"device": "xcku5p", "synthesis": "nextpnr"}, "--synthesis nextpnr places on ecp5-85k only"),
        ({"speed": "1"}, "target 'verilog' has no option --speed: it has --device"),
    ],
)
def test_wrong_options_are_one_line(options: dict[str, str], complaint: str):
    with pytest.raises(CompileError) as raised:
        configured_target("verilog", options)
    assert complaint in str(raised.value) and "\n" not in str(raised.value)


def test_options_belong_to_the_target_that_declares_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["compile", str(tmp_path), "--device", "xcku5p", "-o", str(tmp_path / "a")]) == 2
    assert "No such option" in capsys.readouterr().err
    with pytest.raises(CompileError, match="target 'cpu' has no option --device: it has --encoding"):
        configured_target("cpu", {"device": "xcku5p"})


def test_help_shows_the_options_of_the_target(capsys: pytest.CaptureFixture[str]):
    assert main(["compile", "--target", "verilog", "--help"]) == 0
    assert "--budget lut=N" in capsys.readouterr().out
    assert main(["compile", "--help"]) == 0
    assert "--budget" not in capsys.readouterr().out


def test_a_program_without_a_streaming_form_is_one_line():
    program = parse("""
      func.func @forward(%x : tensor<?x8xi16>) -> tensor<?x8xi16> { func.return %x : tensor<?x8xi16> }""")
    with pytest.raises(CompileError, match="a pipeline begins with the look-up of a token"):
        ConvertFixedToStreamPass().apply(make_context(), program)


def folded(**options: int) -> FoldStagesPass:
    return FoldStagesPass(device="ecp5-85k", **options)


def test_a_goal_takes_no_more_hardware_than_it_needs():
    weights = MODEL.weights()
    ctx, used = make_context(weights), list[int]()
    for goal in (100_000, 300_000, 500_000):
        module = MODEL.module()
        ConvertFixedToStreamPass().apply(ctx, module)
        folded(tokens_per_second=goal).apply(ctx, module)
        predicted = estimate(module, pipeline_in(module), "ecp5")
        assert predicted.tokens_per_second(50) >= goal * 0.9
        used.append(predicted.resources.lut)
    assert used == sorted(used)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"tokens_per_second": 10**9}, "tokens/s are out of reach: ecp5-85k at 50 MHz gives"),
        ({"lut": 100}, "the model does not fit ecp5-85k with this budget: at its smallest it takes"),
        ({"dsp": 1}, "DSP of 1"),
    ],
)
def test_what_cannot_be_is_one_line(options: dict[str, int], complaint: str):
    module, ctx = MODEL.module(), make_context(MODEL.weights())
    ConvertFixedToStreamPass().apply(ctx, module)
    with pytest.raises(CompileError) as raised:
        folded(**options).apply(ctx, module)
    assert complaint in str(raised.value) and "\n" not in str(raised.value)


def test_every_stage_meets_the_interval():
    for interval in (4, 10, 40):
        module = to_pipeline(MODEL.module(), MODEL.weights(), interval=interval)
        assert estimate(module, pipeline_in(module), "ecp5").interval <= interval


def test_folding_divides_rows_evenly():
    assert fewest_lanes(768, 100) == 8
    assert fewest_lanes(7, 3) == 7
    pe, simd = fewest_products(256, 128, 512)
    assert pe * simd == 64 and 256 % pe == 0 and 128 % simd == 0


def test_designs_are_chosen_by_what_was_measured():
    assert cheapest(256, 256, 4096, "xc7")[0] == "adder-tree"
    assert cheapest(1024, 256, 128, "xc7")[0] == "lut-ram"
    assert cheapest(1024, 256, 128, "ecp5")[0] == "adder-tree"
    assert cheapest(64, 64, 1, "xc7")[0] == "shared-sums"
    for family in ("xc7", "ecp5"):
        tree = array_cost("adder-tree", 64, 64, family)
        tables, shared = array_cost("lut-ram", 64, 64, family), array_cost("shared-sums", 64, 64, family)
        assert shared.lut < tables.lut < tree.lut


def test_a_design_that_is_none_is_one_line():
    module, ctx = MODEL.module(), make_context(MODEL.weights())
    ConvertFixedToStreamPass().apply(ctx, module)
    with pytest.raises(
        CompileError, match="a design is one of adder-tree, lut-ram, folded, shared-sums, not systolic"
    ):
        FoldStagesPass(interval=10, design="systolic").apply(ctx, module)


def test_names_and_numbers_are_verilog():
    assert identifier("model.layers.0.attn") == "model_layers_0_attn"
    assert identifier("input") == "input_" and identifier("0.x") == "_0_x"
    assert literal(-8, 4) == "4'sh8" and literal(7, 4) == "4'sd7"
    assert memory_image(np.array([[1, -1], [2, 3]]), 4) == "f1\n32\n"
