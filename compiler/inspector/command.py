"""`sterna inspect`: what the passes did to a model, as a page for the browser."""

from __future__ import annotations

from pathlib import Path

import click

from sterna.size_option import SIZE_OPTION, read_sizes
from sterna.target_options import CompileCommand, split_options

INSPECT_HELP = """Show in a browser what every pass does to SOURCE.

SOURCE is a checkpoint directory, an ONNX model, a file of IR text, or an artifact, of which the report shows the
stages that it keeps. The report is one HTML file that needs no network: the IR before and after every pass, each op
followed to the line of Python that it came from, the dataflow, the cost of a token, and the code that the target emits.
Keys are listed under '?'.

\b
Examples:
  sterna inspect examples/checkpoints/matmulfree-shakespeare -o report.html
  sterna inspect model.mlir -p 'fuse-norm-quantize,fuse-projections' -o report.html
  sterna inspect model.sterna -o report.html
  sterna inspect model.mlir --serve
"""


@click.command(
    name="inspect", cls=CompileCommand, help=INSPECT_HELP, short_help="Show in a browser what every pass did."
)
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--target", default="cpu", show_default=True, help="What to compile for (see `sterna targets`)."
)
@click.option("-p", "--passes", metavar="PIPELINE", help="The passes to run. Default: those of the target.")
@click.option(
    "--weights",
    metavar="PATH|random[:SEED]",
    help="For IR text: where passes read weights. Default: random numbers.",
)
@click.option(
    "--isa", help="The instruction set that code is emitted for. Default: the best of this machine."
)
@click.option(
    "--max-rows", type=click.IntRange(1, 4096), default=64, show_default=True, help="Tokens a kernel takes."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), help="The HTML file to write."
)
@click.option(
    "--serve", "serving", is_flag=True, help="Serve the report on 127.0.0.1; reload it when SOURCE changes."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="With --serve. Default: any that is free."
)
@SIZE_OPTION
@click.option("--browser/--no-browser", default=True, help="With --serve: open the browser.")
def inspect_command(
    source: Path,
    target: str,
    passes: str | None,
    weights: str | None,
    isa: str | None,
    max_rows: int,
    output: Path | None,
    serving: bool,
    port: int,
    sizes: tuple[str, ...],
    browser: bool,
    **others: str,
) -> None:
    if output is None and not serving:
        raise click.UsageError("say where the report goes with -o, or look at it with --serve")
    target_options, _ = split_options(target, others)
    # The command line must start at once, and the compiler takes half a second to import.
    from sterna.inspector.inspect import Request, inspect_source

    request = Request(
        source, target, passes, weights, isa, max_rows, **read_sizes(sizes), target_options=target_options
    )
    if serving:
        _serve(request, output, port, browser)
        return
    inspection = inspect_source(request)
    assert output is not None
    output.write_text(inspection.html(), encoding="utf-8")
    click.echo(f"{output}: {output.stat().st_size / 1e6:.2f} MB", err=True)
    if inspection.failure is not None:
        click.echo(f"error: {inspection.failure}; the report shows what came before", err=True)
        click.get_current_context().exit(1)


def _serve(request: object, output: Path | None, port: int, browser: bool) -> None:
    from sterna.diagnostics import INPUT_ERRORS, one_line
    from sterna.inspector.inspect import Request, inspect_source
    from sterna.inspector.serve import LivePage, make_server, serve

    assert isinstance(request, Request)

    def make(version: str) -> str:
        inspection = inspect_source(request)
        if output is not None:
            output.write_text(inspection.html(), encoding="utf-8")
        return inspection.html(version=version)

    def describe(error: Exception) -> str | None:
        return one_line(error) if isinstance(error, INPUT_ERRORS) else None

    page = LivePage(request.source, make, describe)
    server = make_server(page, port)
    address = f"http://{server.server_address[0]}:{server.server_address[1]}/"
    click.echo(f"{address} (Ctrl-C ends it)", err=True)
    if browser:
        click.launch(address)
    serve(server, page, lambda: click.echo(f"{request.source} changed", err=True))
