"""What fuzzing found, in its smallest form: every input here once raised what no user should see, or hung."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import parser
from xdsl.dialects.builtin import ModuleOp

from sterna.artifact import MANIFEST, Artifact, ArtifactError
from sterna.dialects.context import make_context, parse
from sterna.dialects.errors import CompileError
from sterna.frontends.errors import TokenizerError
from sterna.frontends.onnx.errors import OnnxError
from sterna.frontends.onnx.frontend import OnnxFrontend
from sterna.frontends.tokenizer import Tokenizer
from sterna.model import CompiledModel
from sterna.opt import main
from sterna.passes import PASSES
from sterna.targets.cpu.convert_ternary_to_loops import ConvertTernaryToLoopsPass
from sterna.targets.triton.emitter import emit_module
from sterna.testing import IrProgram
from tests.cpu_programs import PlannedProgram
from tests.fuzz import onnx_models, targets
from tests.gpu_programs import check_on_gpu

TEXTS = {
    "a float beyond its type": "func.func @f() { %0 = arith.constant 1e400 : f32 func.return }",
    "an offset beyond 64 bits": (
        "func.func @f(%x : tensor<?x8xf32>) {\n"
        "  %0 = tensor.extract_slice %x[0, 18446744073709551616] [1, 1] [1, 1] : tensor<?x8xf32> to tensor<1x1xf32>\n"
        "  func.return }"
    ),
    "a transpose of an axis that is not there": (
        "func.func @f(%x : tensor<2x3xf32>, %y : tensor<3x2xf32>) {\n"
        "  %0 = linalg.transpose ins(%x:tensor<2x3xf32>) outs(%y:tensor<3x2xf32>) permutation = [1, 7]\n"
        "  func.return }"
    ),
    "a block that is called by a number": "func.func @f() {\n^0:\n  func.return }",
    "an unclosed string": 'module attributes {"ternary.max_rows = 64 : i64, ternary.weights_bytes = 64 : i64} {}',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_text_that_upstreams_parser_stumbles_over_is_refused(text: str) -> None:
    with pytest.raises(CompileError):
        parse(text)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_sterna_opt_gives_one_line_for_such_text(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.mlir"
    path.write_text(text)
    assert main([str(path)]) == 1
    captured = capsys.readouterr().err
    assert captured.startswith("error: ") and captured.count("\n") == 1


BRANCHES = """
func.func @forward(%x : tensor<?x4xf32>) -> tensor<?x4xf32> {
  cf.br ^bb1
^bb1:
  func.return %x : tensor<?x4xf32>
}
"""


def test_passes_take_or_refuse_functions_of_several_blocks() -> None:
    module = parse(BRANCHES)
    PASSES["fold-weights"]().apply(make_context(), module)
    with pytest.raises(CompileError, match="@forward has branches"):
        PASSES["plan-memory"]().apply(make_context(), module)


LOOPS = """
func.func @forward(%x : tensor<?x4xf32>, %c : tensor<i1>) -> tensor<?x4xf32> {
  %b = tensor.extract %c[] : tensor<i1>
  %y = scf.while (%a = %x) : (tensor<?x4xf32>) -> tensor<?x4xf32> {
    scf.condition(%b) %a : tensor<?x4xf32>
  } do {
  ^bb0(%v : tensor<?x4xf32>):
    scf.yield %v : tensor<?x4xf32>
  }
  func.return %y : tensor<?x4xf32>
}
"""


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (BRANCHES, "@forward has branches: expected one block"),
        (LOOPS, "scf.while is not supported: expected scf.for or scf.if"),
        ("func.func private @g(tensor<4xf32>) -> tensor<4xf32>", "@g has no body"),
    ],
    ids=["blocks", "loops", "declarations"],
)
def test_control_flow_that_has_no_kernel_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(CompileError, match=complaint):
        ConvertTernaryToLoopsPass().apply(make_context(), parse(text))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "func.func @forward(%x : f32) -> f32 { func.return %x : f32 }",
            "@forward takes a scalar of type f32; expected tensors",
        ),
        (
            "func.func @forward() -> f32 { %x = arith.constant 1.0 : f32 func.return %x : f32 }",
            "a scalar of type f32 is returned; expected tensors",
        ),
    ],
    ids=["taken", "returned"],
)
def test_what_is_no_tensor_cannot_be_taken_or_returned(text: str, complaint: str) -> None:
    module = parse(text)
    assert isinstance(module, ModuleOp)
    with pytest.raises(CompileError, match=complaint):
        PASSES["plan-memory"]().apply(make_context(), module)


ROOTS = """
ternary.weight @w : tensor<4xf32>
func.func @forward(%x : tensor<?x4xf32>) -> tensor<?x4xf32> {
  %w = ternary.load @w : tensor<4xf32>
  %y = ternary.rms_norm %x, %w eps = 1.0e-06 lanes = 16 : tensor<?x4xf32>, tensor<4xf32>
  %z = ternary.elementwise(%y : tensor<?x4xf32>) {
  ^bb0(%a : f32):
    %b = math.absf %a : f32
    %c = math.sqrt %b : f32
    ternary.yield %c : f32
  } -> tensor<?x4xf32>
  func.return %z : tensor<?x4xf32>
}
"""


def test_a_program_may_take_the_roots_of_numbers_and_of_vectors() -> None:
    """The norm's root is of one number, the region's of sixteen: xDSL declared LLVM's function for the first alone."""
    program = PlannedProgram(ROOTS, {"w": np.ones(4, np.float32)})
    x = np.arange(-6, 6, dtype=np.float32).reshape(3, 4)
    program.check([x], isa="baseline", threads=1)


def test_a_tokenizer_that_loads_and_cannot_encode_says_so(tmp_path: Path) -> None:
    """Its unknown-token is not in its vocabulary."""
    value = json.loads(targets.tokenizer_json_seeds()[0])
    value["model"]["vocab"] = {"to": 1}
    (tmp_path / "tokenizer.json").write_text(json.dumps(value))
    with pytest.raises(TokenizerError, match=r"tokenizer\.json: cannot encode this text: WordLevel error"):
        Tokenizer.load(tmp_path).encode("be")


def test_an_artifacts_ir_that_is_no_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.sterna"
    stage = "ir/0-imported.mlir"
    shutil.copytree(targets.good_artifact(), path)
    manifest = json.loads((path / MANIFEST).read_text())
    manifest["files"][stage] = {"bytes": 1, "sha256": hashlib.sha256(b"\xff").hexdigest()}
    (path / stage).write_bytes(b"\xff")
    (path / MANIFEST).write_bytes(targets.sealed(json.dumps(manifest).encode()))
    with pytest.raises(
        ArtifactError, match=r"0-imported\.mlir: expected UTF-8: invalid start byte at byte 0"
    ):
        Artifact.open(path).ir("imported")


NO_TEXT = {
    "an operator of a function's body": ("Mul", "name 'M?l' is not UTF-8"),
    "an attribute of a function's body": ("value_float", "attribute 'v?lue_float' is not UTF-8"),
    "an attribute that a function takes": ("by", "attribute 'b?' is not UTF-8"),
    "a function": ("scaled", "name 's?aled' is not UTF-8"),
}


@pytest.mark.parametrize(("word", "complaint"), NO_TEXT.values(), ids=NO_TEXT)
def test_names_in_an_onnx_model_that_are_no_text_are_refused(word: str, complaint: str) -> None:
    data = parser.parse_model(onnx_models.FUNCTION).SerializeToString()
    damaged = word[0].encode() + b"\xff" + word[2:].encode()
    # Behind its length, so that the name of something else that holds the word stays.
    found = bytes([len(word)]) + word.encode()
    assert found in data
    with pytest.raises(OnnxError) as raised:
        OnnxFrontend().load(data.replace(found, bytes([len(word)]) + damaged))
    assert complaint.replace("?", "\N{REPLACEMENT CHARACTER}") in str(raised.value)


@pytest.mark.parametrize("version", [-1, 1 << 40])
def test_a_version_of_an_onnx_domain_that_no_integer_holds_is_refused(version: int) -> None:
    model = parser.parse_model(onnx_models.FUNCTION)
    next(each for each in model.opset_import if each.domain == "own").version = version
    with pytest.raises(OnnxError, match=f"opset_import: domain 'own' has no version {version}"):
        OnnxFrontend().load(model)


QUANT = (
    '<ir_version: 10, opset_import: ["" : 21, "qonnx.custom_op.general" : 1]> g (float[n, 4] x, float s, float b) '
    "=> (float[n, 4] y) { y = qonnx.custom_op.general.Quant(INPUTS) }"
)


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ("x, s, s, b, b", "expected 4 inputs, found 5"),
        ("x, s", "expected 4 inputs, found 2"),
        ("x, s, , b", "input 'zero' is left out"),
    ],
)
def test_inputs_of_operators_that_onnx_does_not_define_are_counted(inputs: str, complaint: str) -> None:
    model = parser.parse_model(QUANT.replace("INPUTS", inputs))
    with pytest.raises(OnnxError, match=complaint):
        OnnxFrontend().load(model)


IMPOSSIBLE = {
    "an arena beyond addresses": (
        ("arena_bytes",),
        1 << 62,
        "arena_bytes: expected an integer from 0 to 2^47",
    ),
    "an arena of infinite size": (("arena_bytes",), float("inf"), "arena_bytes: expected an integer"),
    "a row of no number": (("inputs", 0, "shape"), [float("inf"), 4], "inputs[0].shape: expected an integer"),
    "no rows at once": (("max_rows",), 0, "max_rows: expected an integer from 1"),
    "a type without a name": (("inputs", 0, "dtype"), "", "inputs[0].dtype: expected a type of numpy"),
    "a type that is no text": (("outputs", 0, "dtype"), "\ud800", "outputs[0].dtype: expected a type"),
    "a buffer too small for its rows": (
        ("inputs", 0, "buffer_bytes"),
        64,
        "inputs[0].buffer_bytes: expected at",
    ),
    "an element beyond its buffer": (
        ("outputs", 0, "strides"),
        [1 << 40, 4],
        "outputs[0].buffer_bytes: expected",
    ),
    "fewer strides than axes": (
        ("inputs", 0, "strides"),
        [4],
        "inputs[0].strides: expected 2 numbers, found 1",
    ),
    "another number of elements": (
        ("outputs", 0, "shape"),
        [-1, 5],
        "outputs[0].shape: expected as many elements",
    ),
    "a state that nothing writes": (
        ("inputs", 0, "is_state"),
        True,
        "outputs: expected the states of the inputs",
    ),
    "true for a number": (("weights_bytes",), True, "weights_bytes: expected an integer"),
}


@pytest.mark.parametrize(("path", "value", "complaint"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_a_program_that_cannot_be_is_refused_though_its_seal_is_right(
    path: tuple[str | int, ...], value: object, complaint: str, tmp_path: Path
) -> None:
    copy = tmp_path / "a.sterna"
    shutil.copytree(targets.good_artifact(), copy)
    manifest = json.loads((copy / MANIFEST).read_text())
    field: Any = manifest["program"]
    for step in path[:-1]:
        field = field[step]
    field[path[-1]] = value
    (copy / MANIFEST).write_bytes(targets.sealed(json.dumps(manifest).encode()))
    with pytest.raises(ArtifactError) as raised:
        CompiledModel(Artifact.open(copy))
    assert f"manifest.json: field 'program': {complaint}" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_a_program_that_takes_more_memory_than_there_is_says_how_much(tmp_path: Path) -> None:
    """Fewer bytes than can be addressed, and more than any machine has."""
    copy = tmp_path / "a.sterna"
    shutil.copytree(targets.good_artifact(), copy)
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["program"]["arena_bytes"] = (1 << 47) - 1
    (copy / MANIFEST).write_bytes(targets.sealed(json.dumps(manifest).encode()))
    with pytest.raises(ArtifactError, match=r"the program takes 14073748835\d+ bytes of memory"):
        CompiledModel(Artifact.open(copy))


def test_a_checksum_that_is_none_is_not_repeated_at_length(tmp_path: Path) -> None:
    copy = tmp_path / "a.sterna"
    shutil.copytree(targets.good_artifact(), copy)
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["files"]["config.json"]["sha256"] = "[" * 4000
    (copy / MANIFEST).write_bytes(targets.sealed(json.dumps(manifest).encode()))
    with pytest.raises(ArtifactError, match="sha256': expected 64 hexadecimal digits") as raised:
        Artifact.open(copy)
    assert len(str(raised.value)) < 500


IN_ONE_KERNEL = {
    "an outer norm's weight": """
      func.func @forward(%x : tensor<20xf32>) -> (tensor<20xi8>, tensor<f32>) {
        %w = ternary.elementwise(%x : tensor<20xf32>) {
        ^bb0(%0 : f32):
          %1 = math.absf %0 : f32
          ternary.yield %1 : f32
        } -> tensor<20xf32>
        %q, %step = ternary.norm_quantize %x of %w : tensor<20xf32> outer_eps = 1.0e-05 gains(%w : tensor<20xf32>)
          eps = 1.0e-05 quantize_eps = 1.0e-05 lanes = 16 : tensor<20xf32> -> (tensor<20xi8>), (tensor<f32>)
        func.return %q, %step : tensor<20xi8>, tensor<f32>
      }""",
    "quantized numbers and their step": """
      func.func @forward(%x : tensor<20xf32>) -> (tensor<20xf32>, tensor<20xi8>) {
        %q, %step = ternary.quantize %x eps = 1.0e-05 : tensor<20xf32> -> tensor<20xi8>, tensor<f32>
        %y = ternary.elementwise(%q, %step : tensor<20xi8>, tensor<f32>) {
        ^bb0(%0 : i8, %1 : f32):
          %2 = arith.sitofp %0 : i8 to f32
          %3 = arith.mulf %2, %1 : f32
          ternary.yield %3 : f32
        } -> tensor<20xf32>
        func.return %y, %q : tensor<20xf32>, tensor<20xi8>
      }""",
}


@pytest.mark.parametrize("text", IN_ONE_KERNEL.values(), ids=IN_ONE_KERNEL)
def test_a_gpu_kernel_reads_what_it_computes_itself_and_not_from_memory_too_early(text: str) -> None:
    program = PlannedProgram(text, {})
    program.check_on_triton([np.linspace(-3, 2, 20, dtype=np.float32)])
    (kernel,) = re.findall(
        r"def \w+_to_norm_quantize_0\(.*|def \w+_to_elementwise_0\(.*", emit_module(program.module)
    )
    body = emit_module(program.module).split(kernel)[1].split("\ndef ")[0]
    stored = body.index("tl.store(")
    barrier = body.find("tl.debug_barrier()")
    assert "tl.load(" not in body[stored : barrier if barrier >= 0 else None]


def test_a_folded_size_is_a_weight_on_the_gpu_too() -> None:
    text = """
      ternary.weight @w : tensor<2xf32>
      func.func @forward() -> tensor<1xindex> {
        %w = ternary.load @w : tensor<2xf32>
        %axis = arith.constant 0 : index
        %size = tensor.dim %w, %axis : tensor<2xf32>
        %y = tensor.from_elements %size : tensor<1xindex>
        func.return %y : tensor<1xindex>
      }"""
    check_on_gpu(IrProgram(text, {"w": np.zeros(2, np.float32)}), [])
