"""`sterna fixed-point`: how much a model loses by fixed point, before anything is synthesized."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

HELP = """Measure how far MODEL in fixed point, as an FPGA would run it, is from MODEL in floats.

MODEL is a checkpoint of a language model. Binary points are chosen on one text, and both programs are run on another;
the default texts are excerpts of Shakespeare's plays. Widths are in bits; docs/fixed-point.md says of what.

\b
Examples:
  sterna fixed-point examples/checkpoints/matmulfree-shakespeare-small
  sterna fixed-point CHECKPOINT --text held_out.txt --calibration seen.txt
  sterna fixed-point CHECKPOINT --width residual=18 --width state=18 --width reciprocal=18 --json
"""

WIDTHS = ("activations", "residual", "state", "gains", "reciprocal", "headroom")


@click.command(name="fixed-point", help=HELP, short_help="Measure what fixed point costs a model.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--text", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="To measure on.")
@click.option(
    "--calibration", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="To choose points on."
)
@click.option("--width", "widths", multiple=True, metavar="NAME=BITS", help=f"Of {', '.join(WIDTHS)}.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors.")
def fixed_point_command(
    model: Path,
    text: Path | None,
    calibration: Path | None,
    widths: tuple[str, ...],
    as_json: bool,
    quiet: bool,
) -> None:
    chosen: dict[str, Any] = read_widths(widths)
    from sterna.api import load_source
    from sterna.calibration import CALIBRATION, HELD_OUT
    from sterna.fixed_point_report import measure_on_text
    from sterna.passes.to_fixed_point import ToFixedPointPass
    from sterna.progress import reporting

    with reporting(quiet) as progress:
        progress("importing", 0, 1)
        report = measure_on_text(
            load_source(model, None),
            text=text or HELD_OUT,
            calibration=calibration or CALIBRATION,
            rewrite=replace(ToFixedPointPass(), **chosen),
            progress=progress,
        )
    sys.stdout.write(json.dumps(report.to_json(), indent=1) + "\n" if as_json else str(report))


def read_widths(arguments: tuple[str, ...]) -> dict[str, int]:
    """NAME=BITS, as the options of the pass."""
    from sterna.passes.fixed_formats import LIMITS

    chosen: dict[str, int] = {}
    for argument in arguments:
        name, _, bits = argument.partition("=")
        if name not in WIDTHS or not (bits.isascii() and bits.isdecimal() and len(bits) < 3):
            raise click.UsageError(f"--width {argument}: expected NAME=BITS, NAME one of {', '.join(WIDTHS)}")
        least, most = LIMITS[name]
        if not least <= int(bits) <= most:
            raise click.UsageError(f"--width {argument}: {name} is from {least} to {most} bits")
        chosen[name] = int(bits)
    return chosen
