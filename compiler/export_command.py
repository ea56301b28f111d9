"""`sterna export`: a model as ONNX."""

from __future__ import annotations

from pathlib import Path

import click

HELP = """Write MODEL as ONNX, for other runtimes.

MODEL is what `sterna compile` takes. The file holds standard operators of opset 25, and every ternary weight in two
bits (INT2); ONNX Runtime 1.32 runs it. It computes what the compiled model computes: the same integers, and floats up
to the order in which a runtime adds. The length of the text stays dynamic; recurrent states are inputs and results.

\b
Examples:
  sterna export examples/checkpoints/matmulfree-shakespeare -o shakespeare.onnx
  sterna export CHECKPOINT -o model.onnx --external-data
"""


@click.command(name="export", help=HELP, short_help="Write a model as ONNX.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option(
    "--external-data/--inline",
    default=None,
    help="Weights in OUTPUT.data, or in OUTPUT. Default: beside it above 1 GiB.",
)
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors.")
def export_command(model: Path, output: Path, external_data: bool | None, quiet: bool) -> None:
    from sterna.onnx_export import export
    from sterna.progress import reporting

    with reporting(quiet) as progress:
        files = export(model, output, external_data=external_data, progress=progress)
    if not quiet:
        sizes = ", ".join(f"{file} ({file.stat().st_size / 1e6:.1f} MB)" for file in files)
        click.echo(f"wrote {sizes}", err=True)
