"""`benchmarks/gpu.py`, every line of it, without a GPU: what a lent one would run in its few minutes.

Slow: it compiles a tiny model's kernels and runs them, the shipped model's too, in Triton's interpreter.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
VARIANTS = ("b3", "host", "apart", "launched")
SECTIONS = (
    "compile",
    "shipped",
    "floors",
    "attention",
    "model-tiny",
    *(f"variant-tiny-{kind}" for kind in VARIANTS),
    "peers-tiny",
)


def run(folder: Path, *options: str) -> tuple[dict[str, Any], str]:
    command = [sys.executable, str(SCRIPT), "--folder", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    logs = "\n".join(path.read_text() for path in folder.glob("*.log"))
    assert done.returncode == 0, done.stderr + logs
    return json.loads((folder / "results.json").read_text()), done.stdout


def test_a_rehearsal_runs_every_section_and_finds_equal_bits(tmp_path: Path) -> None:
    results, table = run(tmp_path, "--rehearse")
    assert results["rehearsal"] is True and table.startswith(
        "REHEARSAL on a CPU: no number here is a measurement."
    )
    assert {name: each["state"] for name, each in results["sections"].items()} == dict.fromkeys(
        SECTIONS, "ok"
    )
    assert "NOT WHOLE" not in table and "WRONG" not in table
    model = results["models"]["tiny"]
    assert set(results["shipped"].values()) == set(model["checks"].values()) == {True}
    assert len(model["checks"]) == 30, (
        "ways of a model, and two products in two formats for six numbers of rows"
    )
    assert tuple(model["variants"]) == VARIANTS
    assert all(model["variants"][kind]["checks"] == {"the same logits": True} for kind in VARIANTS[1:])
    assert model["decode"].keys() == model["peers"]["bf16"]["decode"].keys() == {"1", "5"}
    assert model["prompt"]["tokens"] == 6 and model["head"]["shape"] == [300, 64]
    assert results["floors"].keys() == {
        "copy_bytes_per_second",
        "read_bytes_per_second",
        "int8_operations_per_second",
        "bf16_operations_per_second",
    }
    assert isinstance(model["peers"]["fp16, 1 text"], float)
    attention = results["attention"]
    assert list(attention["checks"].values()) == [True] * 4 and attention["prompt"]["tokens"] == 6
    checks = len(results["shipped"]) + 4 + 30 + len(VARIANTS[1:])
    assert f"{checks} of {checks} comparisons equal" in table

    # A section that fails costs itself alone, and the table says so.
    (tmp_path / "shipped-b3.bin").write_bytes(b"")
    (tmp_path / "product-tiny-i2-64x256.py").write_text("raise SystemExit(7)\n")
    sys.path.insert(0, str(SCRIPT.parent))
    try:
        import gpu  # pyright: ignore[reportMissingImports]
    finally:
        sys.path.remove(str(SCRIPT.parent))
    assert gpu.run_section(tmp_path, "shipped", 600).startswith("exit code 1: ")
    assert gpu.run_section(tmp_path, "floors", 0.1) == "stopped after 0 s"
