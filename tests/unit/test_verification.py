"""`sterna verify`: it finds what is planted, names the kernel or the pass, and says what it ran and what it did not."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from xdsl.ir import Operation

from sterna import cli, plugins
from sterna.dialects.context import parse
from sterna.dialects.ternary import ElementwiseOp
from sterna.frontends import Imported
from sterna.plugins import find_target
from sterna.targets.cpu import kernels
from sterna.targets.cpu import target as cpu
from sterna.targets.cpu.kernel import Frame
from sterna.targets.cpu.target import CpuTarget
from sterna.verification.checks import Counterexample, KernelCheck, PassCheck, ProgramCheck
from sterna.verification.kernels import cut_kernels
from sterna.verification.rows import Verdict
from sterna.verification.subjects import Machine, Subject, lowered
from sterna.verification.verify import thread_counts
from tests.raised_models import RaisedModel, store_for

pytestmark = pytest.mark.usefixtures("planted")
pytest_plugins = ("tests.planted_passes",)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """y = x W - x, for any T: a product and a subtraction, which the planted pass turns around."""
    nodes = [helper.make_node("MatMul", ["x", "W"], ["p"]), helper.make_node("Sub", ["p", "x"], ["y"])]
    weight = numpy_helper.from_array(np.random.default_rng(0).standard_normal((8, 8), np.float32), "W")
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["T", 8]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "small", ports[:1], ports[1:], [weight])
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


@pytest.fixture
def run(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    def call(*options: str, examples: int = 5) -> tuple[int, str, str]:
        arguments = ["verify", str(model_file), "--size", "T=T", "--examples", str(examples), *options]
        if "--targets" not in options:
            # Others need tools that are slow, or a machine that is not here.
            arguments += ["--targets", "cpu"]
        code = cli.main([*arguments, "--reproducers", str(tmp_path / "found")])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def tiny(layers: int = 2) -> Subject:
    module = parse(RaisedModel(layers=layers, hidden=8, mlp=16, vocabulary=8).text())
    store = store_for(module, np.random.default_rng(0))
    return lowered(Imported(module, store), find_target("cpu"), max_rows=4)


def nothing(found: Counterexample) -> None:
    raise AssertionError(str(found.difference))


@dataclass
class WrongElementwise:
    """A defect of a kernel: a - b is computed as b - a."""

    emit: Callable[[Any, Frame], None]

    def __call__(self, op: Operation, frame: Frame) -> None:
        self._turn(op)
        self.emit(op, frame)
        self._turn(op)

    def _turn(self, op: Operation) -> None:
        for inner in op.walk():
            if inner.name == "arith.subf":
                inner.operands = tuple(reversed(inner.operands))


def test_every_kernel_of_a_model_is_cut_out_once_with_all_its_places() -> None:
    subject = tiny(layers=3)
    cut = cut_kernels(subject.planned)
    assert len({kernel.text for kernel in cut}) == len(cut)
    names = [kernel.name for kernel in cut]
    assert names[0] == "embedding_0" and any(name.startswith("scan") for name in names)
    assert {len(kernel.places) for kernel in cut} >= {1, 3}, "three layers have three sets of weights"
    for kernel in cut:
        assert "arena" not in kernel.text and "call" not in kernel.text
        subject.plan(kernel.module)
        for place in kernel.places:
            for name, model in place.items():
                assert f"@{name} " in kernel.text and subject.numbers.weight(model) is not None


@pytest.mark.slow
def test_kernels_passes_and_program_of_a_sound_compiler_are_equal() -> None:
    subject = tiny(layers=1)
    machines = [Machine(isa, threads) for isa in subject.target.levels() for threads in (1, 3)]
    checks = [KernelCheck(kernel, subject, machines, 0, nothing) for kernel in cut_kernels(subject.planned)]
    for check in (*checks, ProgramCheck(subject, machines, 0, nothing), PassCheck(subject, 0)):
        check.step(0, 2)
        check.step(1, 2)
        for row in check.rows:
            assert row.verdict == Verdict.EQUAL, (row, row.detail)
            assert row.examples in (4, 2), "a pass that may move roundings has half of them"


def test_a_bug_in_a_kernel_is_found_and_the_kernel_named(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(kernels.KERNELS, ElementwiseOp, WrongElementwise(kernels.KERNELS[ElementwiseOp]))
    code, out, _ = run(
        "--threads", "1", "--json", str(tmp_path / "v.json"), "--junit", str(tmp_path / "v.xml")
    )
    assert code == 1
    assert "DIFFERS: kernel elementwise" in out and "DIFFERS: whole program" in out
    found = json.loads((tmp_path / "v.json").read_text())
    wrong = {row["name"] for row in found["results"] if row["verdict"] == "differs"}
    assert not found["green"] and {name.rstrip("_0123456789") for name in wrong} == {
        "elementwise",
        "whole program",
    }
    (suite,) = ElementTree.parse(tmp_path / "v.xml").getroot()
    assert int(suite.attrib["failures"]) == len([r for r in found["results"] if r["verdict"] == "differs"])
    (name,) = wrong - {"whole program"}
    test = tmp_path / "found" / f"cpu-baseline-1-threads-{name}" / "test_reproduces.py"
    names: dict[str, Any] = {}
    exec(compile(test.read_text(), str(test), "exec"), names)
    with pytest.raises(AssertionError, match="ulp apart"):
        names["test_reproduces"]()
    assert len(test.read_text()) < 1500, "it is short"
    monkeypatch.undo()
    names["test_reproduces"]()


def test_a_wrong_pass_is_found_and_named(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "PIPELINE", ("swap-operands", *cpu.PIPELINE))
    code, out, _ = run("--threads", "1")
    assert code == 1
    assert "DIFFERS: pass swap-operands" in out
    assert "DIFFERS: kernel" not in out, "the kernels are right"
    folder = tmp_path / "found" / "cpu-swap-operands"
    assert "arith.subf" in (folder / "program.mlir").read_text()
    assert "assert_pass_preserves('swap-operands'" in (folder / "test_reproduces.py").read_text()


@pytest.mark.slow
def test_the_reproducer_of_a_whole_program_is_a_test_that_fails(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(kernels.KERNELS, ElementwiseOp, WrongElementwise(kernels.KERNELS[ElementwiseOp]))
    run("--threads", "1")
    (test,) = (tmp_path / "found").glob("cpu-avx2-1-threads-whole-program/test_reproduces.py")
    monkeypatch.undo()
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", str(test)], capture_output=True, text=True)
    assert done.returncode == 0, f"without the bug it passes: {done.stdout}"


def test_green_says_levels_threads_and_leaves_no_folder(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    code, out, err = run("--against", "onnxruntime,interpreter")
    assert (code, err) == (0, "")
    for isa in find_target("cpu").levels():
        assert f"cpu {isa}" in out.splitlines()[-1]
    assert f"threads {', '.join(map(str, thread_counts()))}" in out
    assert "against onnxruntime" in out and "0 bad, 0 not run" in out
    assert not (tmp_path / "found").exists()


def test_no_time_is_not_green(run: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = run("--budget", "0s")
    assert code == 1 and "the time was up" in out and " not run; nothing" in out


class FarTarget(CpuTarget):
    """Of a machine that is not here."""

    name: ClassVar = "far"

    def levels(self, *, emulated: bool = False) -> tuple[str, ...]:
        return ("far1",) if emulated else ()

    def describe_host(self) -> list[str]:
        return ["no such machine"]


def test_what_this_machine_cannot_run_is_said(
    run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plugins, "find_target", plugins.find_target)
    from sterna.verification import verify

    monkeypatch.setattr(
        verify, "find_target", lambda name: FarTarget() if name == "cpu" else find_target(name)
    )
    code, out, _ = run()
    assert code == 1, "nothing was run"
    assert "not run: all kernels on cpu far1: this machine lacks it; --emulate runs it, slowly" in out


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--targets", "abacus"], 2, "--targets abacus: expected one of cpu"),
        (
            ["--against", "tensorflow"],
            2,
            "--against tensorflow: expected one of interpreter, torch, onnxruntime",
        ),
        (["--against", "torch"], 1, "--against torch cannot run an ONNX file: give the checkpoint"),
        (["--budget", "soon"], 2, "expected seconds, or a time such as 90s"),
        (["--json", "no/such/folder/v.json"], 2, "there is no directory no/such/folder"),
    ],
)
def test_a_wrong_option_is_one_line(
    run: Callable[..., tuple[int, str, str]], options: list[str], code: int, said: str
) -> None:
    found, out, err = run(*options)
    assert (found, out) == (code, "") and said in err.splitlines()[-1]


def test_an_artifact_is_verified_with_its_own_kernels(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = tmp_path / "small.sterna"
    assert cli.main(["compile", str(model_file), "--size", "T=T", "-o", str(artifact), "-q"]) == 0
    options = ["--examples", "5", "--threads", "2"]
    assert cli.main(["verify", str(artifact), *options]) == 0
    assert "whole program" in capsys.readouterr().out
    other = tmp_path / "other.sterna"
    assert cli.main(["compile", str(model_file), "--size", "T=3", "-o", str(other), "-q"]) == 0
    assert cli.main(["verify", str(other), *options, "--against", "torch"]) == 1
    assert "an artifact" in capsys.readouterr().err


def test_weights_of_an_artifact_are_those_that_were_packed(model_file: Path, tmp_path: Path) -> None:
    from sterna.verification.models import Model, subject_of

    artifact = tmp_path / "small.sterna"
    assert cli.main(["compile", str(model_file), "--size", "T=T", "-o", str(artifact), "-q"]) == 0
    subject, source = subject_of(artifact, "cpu"), Model(model_file, {"T": "T"}).subject("cpu")
    assert bytes(subject.build.pack(subject.weights)) == bytes(source.build.pack(source.weights))
