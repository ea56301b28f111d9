"""The GPU target: the file that it prints, what becomes of it ahead of time, and how it refuses what it cannot run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.context import parse
from sterna.dialects.errors import CompileError
from sterna.in_memory import jit
from sterna.sampling import Sampling, choose
from sterna.targets.triton import TritonTarget
from sterna.targets.triton.ahead import Compiled, compile_kernels
from sterna.targets.triton.emitter import COPIED, definitions, emit_module
from sterna.targets.triton.engine import load_file
from sterna.targets.triton.executable import TritonTexts
from sterna.targets.triton.products import LAST
from tests.cpu_programs import ENCODINGS, PlannedProgram, trits
from tests.property.test_attention import Heads, dense
from tests.property.test_cpu_kernels import norm_quantize, project, scan

X = "tensor<?x64xf32>"


def layers(count: int, columns: int = 64, encoding: str = "i2") -> PlannedProgram:
    """So many equal pairs of a norm with quantization and a projection that adds its input."""
    x, q, s = f"tensor<?x{columns}xf32>", f"tensor<?x{columns}xi8>", "tensor<?xf32>"
    w, g = (
        trits(columns, columns, encoding),
        f"tensor<{columns}xf32>",
    )
    lines = [
        f"""
        %g{n} = ternary.load @g{n} : {g}
        %w{n} = ternary.load @w{n} : {w}
        %scale{n} = ternary.load @scale{n} : tensor<f32>
        %q{n}, %s{n} = ternary.norm_quantize %x{n} gains(%g{n} : {g}) eps = 1.0e-6 quantize_eps = 1.0e-5 lanes = 16
          : {x} -> ({q}), ({s})
        %x{n + 1} = ternary.project quantized(%q{n} : {q}) steps(%s{n} : {s}) weights(%w{n} : {w})
          scales(%scale{n} : tensor<f32>) reads = [0] with(%x{n} : {x}) {{
        ^bb0(%y : f32, %residual : f32):
          %e = math.exp %y : f32
          %sum = arith.addf %residual, %e : f32
          ternary.yield %sum : f32
        }} -> {x}"""
        for n in range(count)
    ]
    weights = "".join(
        f"ternary.weight @g{n} : {g}\nternary.weight @w{n} : {w}\nternary.weight @scale{n} : tensor<f32>\n"
        for n in range(count)
    )
    return PlannedProgram(
        f"{weights}func.func @forward(%x0 : {x}) -> {x} {{ {''.join(lines)} func.return %x{count} : {x} }}",
        {},
    )


def test_equal_layers_share_kernels() -> None:
    text = emit_module(layers(3).module)
    assert len(re.findall(r"^def project_\d+\(", text, re.MULTILINE)) == 1
    assert len(re.findall(r"^def norm_quantize_\d+\(", text, re.MULTILINE)) == 1
    assert len(re.findall(r"^    project_0\(", text, re.MULTILINE)) == 3


def test_a_private_function_loads_its_own_weight() -> None:
    text = emit_module(
        parse("""
        ternary.weight @g attributes {offset = 0 : i64} : tensor<16xf32>
        func.func private @inner(%x : tensor<?x16xf32>) -> tensor<?x16xf32> attributes {ternary.arena_bytes = 0 : i64} {
          %g = ternary.load @g : tensor<16xf32>
          %y = ternary.rms_norm %x, %g eps = 1.0e-6 lanes = 16 : tensor<?x16xf32>, tensor<16xf32>
          func.return %y : tensor<?x16xf32>
        }
        func.func @forward(%x : tensor<?x16xf32>) -> tensor<?x16xf32> attributes {ternary.arena_bytes = 0 : i64} {
          %y = func.call @inner(%x) : (tensor<?x16xf32>) -> tensor<?x16xf32>
          func.return %y : tensor<?x16xf32>
        }
        """)
    )
    assert "def inner(batch: Batch, weights: dict[str, torch.Tensor], x: torch.Tensor)" in text
    assert "inner(batch, weights, x)" in text


def test_a_single_row_has_the_room_that_kernels_read() -> None:
    import torch

    from sterna.targets.triton.runtime import Batch

    batch = Batch(texts=1, length=1, device=torch.device("cpu"))
    for row in (torch.zeros(64, dtype=torch.int8), torch.zeros((1, 64), dtype=torch.int8)):
        placed = batch.place(row)
        assert placed.shape == row.shape and placed.untyped_storage().nbytes() == 256
        assert batch.place(placed) is placed


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("only_reader", [False, True])
def test_a_cache_is_itself_only_in_place_and_for_its_only_reader(only_reader: bool, in_place: bool) -> None:
    import torch

    from sterna.targets.triton.runtime import Batch

    batch = Batch(texts=1, length=1, device=torch.device("cpu"), in_place=in_place)
    given = torch.ones((4, 16))
    after = batch.cache(given, only_reader)
    assert (after is given) == (in_place and only_reader)
    assert torch.equal(after, given)


def test_a_function_of_math_is_printed_once() -> None:
    assert emit_module(layers(3).module).count("def exp(x):") == 1


LOOK_UP = """
ternary.weight @table attributes {offset = 0 : i64} : tensor<8x16xf16>
ternary.weight @head attributes {offset = 256 : i64} : tensor<8x16xf32>
func.func @forward(%t : tensor<?xi64>, %u : tensor<?xi64>) -> (tensor<?x16xf32>, tensor<?x16xf32>, tensor<8x16xf32>)
    attributes {ternary.arena_bytes = 0 : i64} {
  %table = ternary.load @table : tensor<8x16xf16>
  %head = ternary.load @head : tensor<8x16xf32>
  %x = ternary.embedding %t, %table : tensor<?xi64>, tensor<8x16xf16> -> tensor<?x16xf32>
  %y = ternary.embedding %u, %head : tensor<?xi64>, tensor<8x16xf32> -> tensor<?x16xf32>
  %z = math.exp %head : tensor<8x16xf32>
  func.return %x, %y, %z : tensor<?x16xf32>, tensor<?x16xf32>, tensor<8x16xf32>
}"""


@pytest.mark.parametrize("place", ["device", "host"])
def test_a_table_that_is_only_looked_up_stays_on_the_host_where_that_is_asked(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    path = tmp_path / "kernels.py"
    path.write_text(TritonTarget().configured({"tables": place}).emit(parse(LOOK_UP), "triton"))
    emitted = load_file(path)
    assert emitted.TABLES == ["table"], "the head is read whole"
    # No GPU is here: what moves to one is on the device that holds nothing.
    pinned: list[torch.dtype] = []
    monkeypatch.setattr(torch.Tensor, "to", lambda self, device: torch.empty_like(self, device="meta"))
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: pinned.append(self.dtype) or self)
    packed = torch.zeros(768, dtype=torch.uint8)
    weights = emitted.load_weights(packed, torch.device("cuda"))
    assert pinned == ([torch.float16] if place == "host" else [])
    assert weights["table"].device.type == ("cpu" if place == "host" else "meta")
    assert weights["head"].device.type == "meta" and weights["head"].shape == (128,)


def test_a_place_of_tables_that_there_is_not() -> None:
    with pytest.raises(CompileError, match="--tables disk: expected one of device, host"):
        TritonTarget().configured({"tables": "disk"})


def test_what_no_kernel_calls_is_not_copied() -> None:
    text = emit_module(scan(16).module)
    assert "def scan_0(" in text and "def to_int8(" not in text and "class Decoder" not in text


@pytest.mark.parametrize(
    "program",
    [
        layers(2),
        project(17, 255, "random"),
        norm_quantize(257, norm_of_norm=True),
        scan(255),
        PlannedProgram(Heads(5, 4, 20, 4096, turned=True).text(), {}),
        PlannedProgram(Heads(2, 3, 300, 4096, turned=True).text(), {}),
        dense(2560, 4096),
    ],
)
def test_the_file_is_formatted_and_lints_clean(program: PlannedProgram, tmp_path: Path) -> None:
    path = tmp_path / "kernels.py"
    path.write_text(emit_module(program.module))
    settings = ("--config", str(Path(__file__).parents[2] / "pyproject.toml"))
    for command in (["format", "--check"], ["check"]):
        ruff = [sys.executable, "-m", "ruff", *command, *settings, str(path)]
        done = subprocess.run(ruff, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_file_imports_nothing_but_torch_and_triton() -> None:
    text = emit_module(layers(1).module)
    imported = set(re.findall(r"^(?:import|from) ([\w.]+)", text, re.MULTILINE))
    assert imported == {"__future__", "dataclasses", "torch", "triton", "triton.language"}


def test_operations_without_a_kernel_are_named_with_their_places() -> None:
    module = parse("""
      func.func @forward(%x : tensor<?x8xi18>) -> tensor<?xi21> {
        %n = fixed.sum %x : tensor<?x8xi18> -> tensor<?xi21> loc("mean"("model.py":7:0))
        func.return %n : tensor<?xi21>
      }""")
    with pytest.raises(CompileError, match=r"no kernel for 1 operations: fixed\.sum .*model\.py:7"):
        emit_module(module)


def test_arithmetic_without_a_triton_form_is_named_with_its_place() -> None:
    module = parse(f"""
      func.func @forward(%x : {X}) -> {X} {{
        %y = math.fma %x, %x, %x : {X} loc("gate"("model.py":9:0))
        func.return %y : {X}
      }}""")
    with pytest.raises(CompileError, match=r"model\.py:9.*no Triton form of math\.fma"):
        jit(module, target="triton", isa="interpreter")


def test_without_a_gpu_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr("sterna.targets.triton.executable.device_names", list)
    program = scan(16)
    with pytest.raises(CompileError, match=r"--isa interpreter .*TRITON_INTERPRET=1.*--target cpu"):
        TritonTarget().load(TritonTarget().build(program.module), program.program, program.packed)
    with pytest.raises(CompileError, match="'cuda:90' does not run here: torch finds no GPU"):
        TritonTarget().load(
            TritonTarget().build(program.module), program.program, program.packed, isa="cuda:90"
        )


def test_an_unknown_machine_or_kind() -> None:
    with pytest.raises(CompileError, match=r"no instruction set 'cuda' to compile for: expected cuda:NN"):
        TritonTarget().emit(scan(16).module, "ptx", isa="cuda")
    with pytest.raises(CompileError, match="there is no PTX for hip:gfx942"):
        TritonTarget().emit(scan(16).module, "ptx", isa="hip:gfx942")
    with pytest.raises(CompileError, match="target 'triton' emits triton, ttir, ptx, not 'asm'"):
        TritonTarget().emit(scan(16).module, "asm")


def test_several_programs_live_in_one_process() -> None:
    def of(function: str) -> ModuleOp:
        return parse(
            f"func.func @forward(%x : {X}) -> {X} {{ %y = math.{function} %x : {X} func.return %y : {X} }}"
        )

    x = np.linspace(0.1, 3, 128, dtype=np.float32).reshape(2, 64)
    programs = [jit(of(name), target="triton", isa="interpreter") for name in ("exp", "log")]
    expected = [jit(of(name), isa="baseline").run([x])[0] for name in ("exp", "log")]
    for program, values in zip(programs, expected, strict=True):
        assert np.array_equal(program.run([x])[0], values)


# Ahead of time: what the compiler makes of the kernels, for GPUs that are not here.


def ahead(isa: str, program: PlannedProgram) -> list[Compiled]:
    return list(compile_kernels(program.module, isa))


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["cuda:80", "cuda:90"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_products_load_16_bytes_at_once_and_use_what_multiplies_bytes(isa: str, encoding: str) -> None:
    """Slow: Triton compiles a kernel in seconds."""
    few, many = (
        each.texts["ptx"] for each in ahead(isa, layers(1, 1024, encoding)) if each.name.startswith("project")
    )
    assert few.count("ld.global.v4") >= 5, "packed trits and four times activations"
    assert "dp4a.u32.s32" in few
    product = r"wgmma\.mma_async\S*\.s32\.s8\.s8" if isa == "cuda:90" else r"mma\.sync\S*\.s32\.s8\.s8\.s32"
    assert re.search(product, many)


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["cuda:80", "cuda:90"])
def test_no_kernel_spills_or_takes_a_rounding_away(isa: str) -> None:
    """Slow: the same."""
    programs = (
        *(layers(1, 1024, each) for each in ENCODINGS),
        norm_quantize(2560, norm_of_norm=True),
        scan(2560),
        dense(2560, 4096),
    )
    for program in programs:
        for kernel in ahead(isa, program):
            ptx = kernel.texts["ptx"]
            assert not re.search(r"\b(ld|st)\.local", ptx), kernel.name
            assert not re.search(r"\bfma\.|\.ftz|div\.full|\.approx", ptx), kernel.name
            if kernel.name.startswith("scan"):
                before, _ = ptx.split("st.global", 1)
                assert before.count("ld.global") == 65 and ptx.count("ld.global") == 65, (
                    "no load waits behind a store: the first state, gates and inputs of 32 tokens"
                )


@pytest.mark.slow
def test_amd_compiles_too() -> None:
    """Slow: the same."""
    texts = [kernel.texts["amdgcn"] for kernel in ahead("hip:gfx942", layers(1, 1024))]
    assert any("v_mfma_i32" in text for text in texts)


# Sampling on the device, where that is torch's.


@pytest.mark.parametrize(("top_k", "top_p"), [(None, None), (5, None), (None, 0.7), (7, 0.5), (1, None)])
def test_a_draw_on_the_device_is_that_of_the_host(top_k: int | None, top_p: float | None) -> None:
    import torch

    from sterna.targets.triton.decoding import sample

    generator = np.random.default_rng(3)
    logits = generator.integers(-4, 5, (40, 50)).astype(np.float32)  # many ties
    sampling = Sampling(0.7, top_k, top_p, seed=11)
    host, draws = sampling.generator(), sampling.generator()
    for row in logits:
        state = draws.bit_generator.state
        tensors = torch.from_numpy(row[None]), torch.tensor([draws.random()], dtype=torch.float64)
        token, among = sample(*tensors, 0.7, top_k, top_p)
        if int(among[0]) == 1:
            draws.bit_generator.state = state
        assert int(token[0]) == choose(row, sampling, host)


@pytest.mark.parametrize("row", [[1, 1, -np.inf], [np.inf, 3, np.inf], [0, -np.inf, 0, 0, 0]])
@pytest.mark.parametrize("draw", [0.0, 0.25, 0.5, 1 - 2.0**-53])
def test_a_draw_at_an_edge_is_that_of_the_host(draw: float, row: list[float]) -> None:
    import torch

    from sterna.targets.triton.decoding import sample

    host: Any = SimpleNamespace(random=lambda: draw)
    token, _ = sample(torch.tensor([row]), torch.tensor([draw], dtype=torch.float64), 0.5, None, None)
    assert int(token[0]) == choose(np.array(row, np.float32), Sampling(0.5), host)


def test_what_draws_nothing_on_the_host_draws_nothing() -> None:
    """A greedy choice, and one of a single token; each text has its own."""
    among = 1
    engine: Any = SimpleNamespace(choose=lambda decoder, text, options, draw: (7, among))
    decoder = SimpleNamespace(tokens=np.array([3, 5]))
    generator, texts = np.random.default_rng(1), TritonTexts(engine, decoder)
    before = generator.bit_generator.state
    assert [texts.choose(text, 0.0, None, None, generator) for text in (0, 1)] == [3, 5]
    assert texts.choose(0, 1.0, 1, None, generator) == 7
    assert generator.bit_generator.state == before
    among = 2
    assert texts.choose(0, 1.0, 2, None, generator) == 7
    assert generator.bit_generator.state != before


def test_what_every_product_takes_hides_no_function() -> None:
    """The region of a product may call any of them: `magnitude` was one once, and a parameter too."""
    functions = {name for file in COPIED for name in definitions(file)}
    assert "magnitude" in functions
    assert not functions & {param.name for param in LAST}


def test_a_text_may_fill_its_context(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from sterna.targets.triton import decoding

    monkeypatch.setattr(decoding, "CAPACITY", 5)
    decoder = decoding.Decoder({}, torch.device("cpu"))
    for tokens in (4, 1):
        decoder.count(tokens)
    with pytest.raises(ValueError, match="5 tokens and 1 more are not in the context of 5 tokens"):
        decoder.count(1)
    decoder.reset()
    decoder.count(5)
