"""The CPU target: its stages, the code it makes, and how it refuses what it cannot run."""

from __future__ import annotations

import gc
import multiprocessing
import re
import threading
from io import StringIO

import numpy as np
import pytest
from xdsl.dialects.builtin import ModuleOp
from xdsl.printer import Printer
from xdsl.transforms.convert_scf_to_cf import ConvertScfToCf

from sterna.dialects.context import make_context, parse
from sterna.dialects.errors import CompileError
from sterna.dialects.weights import ArrayStore
from sterna.in_memory import jit
from sterna.targets.cpu import CpuTarget, codegen, isa
from sterna.targets.cpu.convert_ternary_to_loops import ConvertTernaryToLoopsPass
from sterna.targets.cpu.convert_to_llvm import ConvertToLLVMPass
from sterna.targets.cpu.executable import CpuExecutable
from sterna.targets.cpu.lowering import llvm_ir
from sterna.targets.program import InputError, Program
from tests.cpu_programs import PlannedProgram, isa_names, same_bits, trits

D = 40
X, G, S, Q = f"tensor<?x{D}xf32>", f"tensor<{D}xf32>", "tensor<?xf32>", f"tensor<?x{D}xi8>"
W = trits(D, D)

MODEL = f"""
  ternary.weight @table : tensor<50x{D}xf32>
  ternary.weight @gain0 : {G}
  ternary.weight @gain1 : {G}
  ternary.weight @w0 : {W}
  ternary.weight @w1 : {W}
  ternary.weight @scale : tensor<f32>
  func.func @forward(%tokens : tensor<?xi64>, %s0 : {G}, %s1 : {G}) -> ({X}, {G}, {G})
      attributes {{sterna.states = 2 : i64, sterna.input_names = ["tokens"],
                   sterna.input_shapes = [array<i64: 1, -1>, array<i64: 1, {D}>, array<i64: 1, {D}>],
                   sterna.output_shapes = [array<i64: 1, -1, {D}>, array<i64: 1, {D}>, array<i64: 1, {D}>]}} {{
    %table = ternary.load @table : tensor<50x{D}xf32>
    %g0 = ternary.load @gain0 : {G}
    %g1 = ternary.load @gain1 : {G}
    %w0 = ternary.load @w0 : {W}
    %w1 = ternary.load @w1 : {W}
    %scale = ternary.load @scale : tensor<f32>
    %x = ternary.embedding %tokens, %table : tensor<?xi64>, tensor<50x{D}xf32> -> {X}
    %y, %l0 = func.call @layer(%x, %s0, %g0, %w0, %scale) : ({X}, {G}, {G}, {W}, tensor<f32>) -> ({X}, {G})
    %z, %l1 = func.call @layer(%y, %s1, %g1, %w1, %scale) : ({X}, {G}, {G}, {W}, tensor<f32>) -> ({X}, {G})
    func.return %z, %l0, %l1 : {X}, {G}, {G}
  }}
  func.func private @layer(%x : {X}, %s : {G}, %g : {G}, %w : {W}, %scale : tensor<f32>) -> ({X}, {G}) {{
    %q, %step = ternary.norm_quantize %x gains(%g : {G}) eps = 1.0e-6 quantize_eps = 1.0e-5 lanes = 16
      : {X} -> ({Q}), ({S})
    %f, %i = ternary.project quantized(%q : {Q}) steps(%step : {S}) weights(%w : {W}) scales(%scale : tensor<f32>)
      reads = [0] with(%x : {X}) {{
    ^bb0(%a : f32, %b : f32):
      %half = arith.constant 5.0e-01 : f32
      %0 = arith.mulf %a, %half : f32
      %1 = arith.addf %a, %b : f32
      ternary.yield %0, %1 : f32, f32
    }} -> {X}, {X}
    %y, %last = ternary.scan %f, %i, %s : {X}, {G}
    func.return %y, %last : {X}, {G}
  }}"""


@pytest.fixture(scope="module")
def model() -> PlannedProgram:
    generator = np.random.default_rng(0)
    weights = {name: generator.integers(-1, 2, (D, D)).astype(np.int8) for name in ("w0", "w1")}
    gains = {name: generator.standard_normal(D, np.float32) for name in ("gain0", "gain1")}
    table = generator.standard_normal((50, D), np.float32)
    return PlannedProgram(MODEL, {**weights, **gains, "table": table, "scale": np.array(0.1, np.float32)})


def inputs_of(rows: int) -> list[np.ndarray]:
    generator = np.random.default_rng(rows)
    states = generator.standard_normal((2, D), np.float32)
    return [generator.integers(0, 50, rows), states[0], states[1]]


def run(executable: CpuExecutable, rows: int) -> tuple[np.ndarray, ...]:
    tokens, *states = inputs_of(rows)
    return executable.run([tokens[None], *(state[None] for state in states)])


@pytest.mark.parametrize("name", isa_names())
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("rows", [1, 3, 8, 20])
def test_layers_that_share_a_function(model: PlannedProgram, name: str, threads: int, rows: int) -> None:
    expected = model.interpreter.run(inputs_of(rows))
    found = run(model.executable(name, threads), rows)
    assert [array.shape for array in found] == [(1, rows, D), (1, D), (1, D)]
    for a, b in zip(found, expected, strict=True):
        assert same_bits(a.reshape(b.shape), b)


def test_one_program_serves_one_row_and_many(model: PlannedProgram) -> None:
    tokens, *states = inputs_of(11)
    executable = model.executable("baseline", 1)
    whole = run(executable, 11)
    rows: list[np.ndarray] = []
    state = [each[None] for each in states]
    for token in tokens:
        y, *state = executable.run([np.array([[token]]), *state])
        rows.append(y[0, 0])
    assert same_bits(np.stack(rows), whole[0][0])
    assert same_bits(state[0], whole[1]) and same_bits(state[1], whole[2])


def test_no_rows_leave_the_states_as_they_are(model: PlannedProgram) -> None:
    y, *states = run(model.executable("baseline", 2), 0)
    assert y.shape == (1, 0, D)
    for found, given in zip(states, inputs_of(0)[1:], strict=True):
        assert same_bits(found[0], given)


def test_results_are_copies(model: PlannedProgram) -> None:
    executable = model.executable("baseline", 1)
    first = run(executable, 3)
    kept = [array.copy() for array in first]
    run(executable, 5)
    assert all(same_bits(a, b) for a, b in zip(first, kept, strict=True))


def test_identical_layers_have_kernels_once(model: PlannedProgram) -> None:
    source = llvm_ir(model.module, isa.find_isa("baseline"))
    defined = re.findall(r"define \w* ?void @\"?(\w+)\"?", source)
    assert sorted(defined) == ["embedding_0", "forward", "layer", "norm_quantize_1", "project_2", "scan_3"]


def printed(module: ModuleOp) -> str:
    out = StringIO()
    Printer(stream=out).print_op(module)
    return out.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize("name", isa_names())
def test_every_stage_prints_and_parses_back(model: PlannedProgram, name: str) -> None:
    module = model.module.clone()
    for step in (ConvertTernaryToLoopsPass(name), ConvertScfToCf(), ConvertToLLVMPass()):
        step.apply(make_context(), module)
        module.verify()
        text = printed(module)
        module = parse(text)
        assert printed(module) == text


def test_avx512_multiplies_with_vpdpbusd_on_whole_registers(model: PlannedProgram) -> None:
    text = CpuTarget().emit(model.module, "asm", isa="avx512vnni")
    dot = function_text(text, "dot_256")
    assert len(re.findall(r"vpdpbusd\s.*%zmm", dot)) == 16
    # Nothing of one element: no multiplication of integers, no conversion, no loads of bytes.
    assert not re.search(r"\b(imul|movzb|movsb|cvtsi2)", dot)


@pytest.mark.parametrize(("name", "vector"), [("avx2", "vpmaddubsw"), ("baseline", "pmullw")])
def test_narrower_levels_are_vectors_too(model: PlannedProgram, name: str, vector: str) -> None:
    dot = function_text(CpuTarget().emit(model.module, "asm", isa=name), "dot_256")
    assert dot.count(vector) >= 32
    assert not re.search(r"\b(imul|movzb|movsb|cvtsi2)", dot)


@pytest.mark.parametrize("name", isa_names())
def test_nothing_is_contracted(model: PlannedProgram, name: str) -> None:
    assert "fmadd" not in CpuTarget().emit(model.module, "asm", isa=name)


@pytest.mark.slow
def test_the_portable_form_becomes_neon(model: PlannedProgram) -> None:
    source = CpuTarget().build(model.module)["kernels.ll"].decode()
    text = codegen.assembly(source, "aarch64-unknown-linux-gnu", "")
    dot = function_text(text, "dot_256")
    assert re.search(r"\b(mla|smlal|umlal)\d?\s+v\d+\.8h", dot)
    assert "fmadd" not in text and "fmla" not in text


def function_text(assembly: str, name: str) -> str:
    found = re.search(rf"^{name}:.*?^\.Lfunc_end", assembly, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


def test_a_foreign_machine_compiles_the_portable_form(
    model: PlannedProgram, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"kernels.ll": CpuTarget().build(model.module)["kernels.ll"]}
    monkeypatch.setattr(codegen, "host_is_x86", lambda: False)
    executable = CpuTarget().load(files, model.program, model.packed, isa="baseline")
    expected = model.interpreter.run(inputs_of(9))
    assert same_bits(run(executable, 9)[0][0], expected[0])


def test_the_program_survives_json(model: PlannedProgram) -> None:
    assert Program.from_json(model.program.to_json()) == model.program


def test_tokens_are_checked_where_a_callee_looks_them_up() -> None:
    t, y = "tensor<7x16xf32>", "tensor<?x16xf32>"
    program = PlannedProgram(
        f"""
        ternary.weight @t : {t}
        func.func @forward(%tokens : tensor<?xi64>) -> {y} {{
          %t = ternary.load @t : {t}
          %y = func.call @look_up(%tokens, %t) : (tensor<?xi64>, {t}) -> {y}
          func.return %y : {y}
        }}
        func.func private @look_up(%tokens : tensor<?xi64>, %t : {t}) -> {y} {{
          %y = ternary.embedding %tokens, %t : tensor<?xi64>, {t} -> {y}
          func.return %y : {y}
        }}""",
        {},
    )
    assert program.program.inputs[0].limit == 7


def test_isa_by_name_by_environment_and_by_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(isa.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(isa, "host_flags", lambda: frozenset(isa.find_isa("avx2").requires))
    monkeypatch.setattr(isa.platform, "machine", lambda: "x86_64")
    assert isa.choose_isa().name == "avx2"
    assert isa.choose_isa("baseline").name == "baseline"
    monkeypatch.setenv(isa.ENVIRONMENT_VARIABLE, "baseline")
    assert isa.choose_isa().name == "baseline"
    with pytest.raises(CompileError, match=r"lacks avx512f, .*'avx2' is the best"):
        isa.choose_isa("avx512vnni")
    with pytest.raises(CompileError, match="expected one of: avx512vnni, avx2, baseline"):
        isa.choose_isa("mmx")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.array([[50]]), r"input 'tokens': expected values in \[0, 50\), found 50"),
        (np.array([[-1]]), r"input 'tokens': expected values in \[0, 50\), found -1"),
        (np.array([1]), r"input 'tokens': expected shape \(1, T\), found \(1,\)"),
        (np.array([[0.5]]), "input 'tokens': expected int64, found float64"),
        (np.array([["a"]]), "input 'tokens': expected int64, found <U1"),
    ],
)
def test_wrong_inputs_are_one_line(model: PlannedProgram, tokens: np.ndarray, message: str) -> None:
    states = [np.zeros((1, D), np.float32)] * 2
    with pytest.raises(InputError, match=message):
        model.executable("baseline", 1).run([tokens, *states])


def test_wrong_numbers_of_things(model: PlannedProgram) -> None:
    executable = model.executable("baseline", 1)
    with pytest.raises(InputError, match="expected 3 inputs, found 0"):
        executable.run([])
    with pytest.raises(InputError, match="threads: expected at least 1, found -1"):
        model.executable("baseline", -1)
    with pytest.raises(InputError, match="bytes of weights, found 3"):
        CpuTarget().load(
            CpuTarget().build(model.module), model.program, np.zeros(3, np.uint8), isa="baseline"
        )


def test_damaged_objects_are_one_line(model: PlannedProgram) -> None:
    whole = CpuTarget().build_object(model.module, "baseline")
    moved = whole[:40] + (len(whole) - 64).to_bytes(8, "little") + whole[48:]
    damaged = ({"kernels.baseline.o": data} for data in (b"nonsense", whole[:100], whole[:-1], moved))
    for files in (*damaged, {"kernels.ll": b"nonsense"}, {}):
        with pytest.raises(CompileError) as caught:
            CpuTarget().load(files, model.program, model.packed, isa="baseline")
        assert "\n" not in str(caught.value)


def test_a_module_that_was_not_planned() -> None:
    with pytest.raises(CompileError, match="run plan-memory first"):
        llvm_ir(parse(MODEL), isa.find_isa("baseline"))


def test_an_operation_without_a_kernel() -> None:
    text = f"""
      func.func @forward(%x : {X}) -> {X} attributes {{ternary.arena_bytes = 0 : i64}} {{
        %y = math.tan %x {{arena = array<i64: -1>}} : {X}
        func.return %y : {X}
      }}"""
    module = parse(f"builtin.module attributes {{ternary.max_rows = 1 : i64}} {{ {text} }}")
    with pytest.raises(CompileError, match=r"no vector form of math\.tan"):
        llvm_ir(module, isa.find_isa("baseline"))


@pytest.mark.parametrize(
    "line",
    [
        "ternary.accumulate %q, %w : tensor<?x8xi8>, tensor<4x8x!ternary.trit> -> tensor<?x4xi16>",
        "ternary.embedding %t, %i : tensor<?xi64>, tensor<4x8xi32> -> tensor<?x8xi32>",
    ],
)
def test_fixed_point_has_no_kernels(line: str) -> None:
    result = line.rpartition("-> ")[2]
    module = parse(f"""
      ternary.weight @w : tensor<4x8x!ternary.trit>
      ternary.weight @i : tensor<4x8xi32>
      func.func @forward(%q : tensor<?x8xi8>, %t : tensor<?xi64>) -> {result} {{
        %w = ternary.load @w : tensor<4x8x!ternary.trit>
        %i = ternary.load @i : tensor<4x8xi32>
        %r = {line}
        func.return %r : {result}
      }}""")
    weights = ArrayStore({"w": np.zeros((4, 8), np.int8), "i": np.zeros((4, 8), np.int32)})
    with pytest.raises(CompileError, match="in fixed point"):
        jit(module, weights)


def test_more_threads_than_processors_still_meet_at_the_barrier(model: PlannedProgram) -> None:
    expected = model.interpreter.run(inputs_of(8))
    executable = model.executable("baseline", 9)
    for _ in range(30):
        assert same_bits(run(executable, 8)[0][0], expected[0])


def test_calls_from_several_threads_take_turns(model: PlannedProgram) -> None:
    executable = model.executable("baseline", 2)
    expected = {rows: model.interpreter.run(inputs_of(rows))[0] for rows in (1, 8, 20)}
    wrong: list[int] = []

    def work(rows: int) -> None:
        results = [run(executable, rows)[0][0] for _ in range(20)]
        wrong.extend(rows for result in results if not same_bits(result, expected[rows]))

    workers = [threading.Thread(target=work, args=(rows,)) for rows in expected]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def _run_in_child(executable: CpuExecutable, out: multiprocessing.SimpleQueue[bytes]) -> None:
    out.put(run(executable, 8)[0].tobytes())


def test_threads_end_with_their_executable(model: PlannedProgram) -> None:
    before = set(threading.enumerate())
    executable = model.executable("baseline", 3)
    run(executable, 4)
    crew = [thread for thread in threading.enumerate() if thread not in before]
    assert len(crew) == 2
    del executable
    gc.collect()
    for thread in crew:
        thread.join(10)
        assert not thread.is_alive()


def test_a_forked_process_has_its_own_threads(model: PlannedProgram) -> None:
    executable = model.executable("baseline", 2)
    expected = run(executable, 8)[0].tobytes()
    context = multiprocessing.get_context("fork")
    out: multiprocessing.SimpleQueue[bytes] = context.SimpleQueue()
    child = context.Process(target=_run_in_child, args=(executable, out))
    child.start()
    child.join(timeout=60)
    assert child.exitcode == 0
    assert out.get() == expected
