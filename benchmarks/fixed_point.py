"""What fixed point costs the shipped models: prints the table of docs/fixed-point.md, or puts it there.

python benchmarks/fixed_point.py
python benchmarks/fixed_point.py --write
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import date
from pathlib import Path
from typing import Any

import click

from sterna.api import load_source
from sterna.fixed_point_report import FixedPointReport, measure_on_text
from sterna.passes.fixed_formats import Widths
from sterna.passes.to_fixed_point import ToFixedPointPass
from sterna.progress import reporting

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "fixed-point.md"
BLOCK = re.compile(r"(?<=<!-- measured by benchmarks/fixed_point.py -->\n).*?(?=<!-- end -->)", re.S)
LARGE, SMALL = "matmulfree-shakespeare", "matmulfree-shakespeare-small"
DEFAULT = ToFixedPointPass()
ALL_18 = replace(DEFAULT, residual=18, state=18, reciprocal=18)
CASES = (
    (LARGE, DEFAULT),
    (LARGE, ALL_18),
    (SMALL, DEFAULT),
    (SMALL, replace(DEFAULT, reciprocal=18)),  # what the FPGA target takes for ECP5
    (SMALL, ALL_18),
    (SMALL, replace(ALL_18, activations=16, residual=16, gains=16)),
    (SMALL, replace(ALL_18, activations=14, residual=16, state=16, gains=12)),
    (SMALL, replace(ALL_18, activations=12, residual=14, state=14, gains=10)),
    (SMALL, replace(ALL_18, activations=10, residual=12, state=12, gains=8)),
)


def widths_of(rewrite: ToFixedPointPass) -> str:
    names = [each.name for each in fields(Widths) if each.name != "headroom"]
    return " ".join(str(getattr(rewrite, name)) for name in names)


def row(model: str, rewrite: ToFixedPointPass, report: FixedPointReport) -> str:
    cells: list[Any] = [
        f"`{model}`",
        widths_of(rewrite),
        f"{report.float_bits_per_byte:.4f}",
        f"{report.fixed_bits_per_byte:.4f}",
        f"{report.relative_bits:+.3%}",
        f"{report.greedy_agreement:.2%}",
        f"{report.mean_logit_error:.4f}",
        f"{report.max_logit_error:.3f}",
        f"{report.largest_logit:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def measured(quiet: bool) -> Iterator[str]:
    yield "| model | widths | floats | fixed point | change | greedy agreement | mean error | largest | largest logit |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for model, rewrite in CASES:
        imported = load_source(ROOT / "examples" / "checkpoints" / model, None)
        with reporting(quiet) as progress:
            report = measure_on_text(imported, rewrite=rewrite, progress=progress)
        yield row(model, rewrite, report)
    yield ""
    yield (
        f"Bits per byte of {report.text_bytes:,} bytes of held-out text, the interpreter, {platform.python_version()}, "
        f"{date.today()}."
    )


@click.command(help=__doc__)
@click.option("--write", is_flag=True, help="Into docs/fixed-point.md.")
@click.option("-q", "--quiet", is_flag=True)
def main(write: bool, quiet: bool) -> None:
    text = "\n".join(measured(quiet)) + "\n"
    click.echo(text, nl=False)
    if write:
        old = DOCUMENT.read_text(encoding="utf-8")
        DOCUMENT.write_text(BLOCK.sub(lambda _: text, old), encoding="utf-8")


if __name__ == "__main__":
    main()
