"""`sterna verify`: the command line of the verification."""

from __future__ import annotations

import re
from pathlib import Path

import click

from sterna.size_option import SIZE_OPTION, read_sizes

HELP = """Check that MODEL computes the same everywhere: kernel by kernel, pass by pass, and as a whole.

MODEL is a checkpoint, a .onnx file, or an artifact. Every kernel of its program is run alone, on inputs that break
kernels (rows of zeros, huge outliers, ties of rounding, denormals, saturation, NaN; no rows, one, more than a call
takes), with the model's weights and with others, on every instruction set of this machine and with 1, 2 and all
threads; its results must be the interpreter's, bit for bit. So must those of the whole program, at once and cut into
pieces. Every pass is interpreted before and after.

--against torch or onnxruntime also compares with that runtime, as far as the passes say that they move roundings, and
by the tokens that are chosen.

What differs is written to a folder, as a pytest function that fails in the same way. The exit code is then 1.

\b
Examples:
  sterna verify examples/checkpoints/matmulfree-shakespeare
  sterna verify model.sterna --budget 60s
  sterna verify CHECKPOINT --targets cpu --encoding b3
  sterna verify network.onnx --against onnxruntime --size batch=1
  sterna verify CHECKPOINT --targets cpu --against torch --junit verify.xml --json verify.json
"""

DURATION = re.compile(r"(\d+(?:\.\d+)?)(s|m|h|)")
SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}


class Duration(click.ParamType[float]):
    """`60`, `60s`, `5m`, `1h`."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        if (found := DURATION.fullmatch(str(value))) is None:
            self.fail(f"'{value}': expected seconds, or a time such as 90s, 5m, 1h", param, ctx)
        return float(found[1]) * SECONDS[found[2]]


class Names(click.ParamType[tuple[str, ...]]):
    """Words with commas between them."""

    name = "names"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        words = tuple(dict.fromkeys(filter(None, str(value).replace(" ", "").split(","))))
        if not words:
            self.fail("expected names with commas between them", param, ctx)
        return words


@click.command(name="verify", help=HELP, short_help="Check that kernels, passes and targets are equivalent.")
@click.argument("path", metavar="MODEL", type=click.Path(path_type=Path))
@click.option("--targets", type=Names(), metavar="A,B", help="Default: all that are installed.")
@click.option(
    "--against",
    type=Names(),
    default="interpreter",
    show_default=True,
    metavar="A,B",
    help="torch, onnxruntime; the interpreter always.",
)
@click.option(
    "--examples", type=click.IntRange(1), default=20, show_default=True, help="Of each kernel and program."
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option(
    "--budget", type=Duration(), metavar="TIME", help="Stop after so long: 90s, 5m. Default: no limit."
)
@click.option("--emulate", is_flag=True, help="Also the instruction sets that this machine lacks, slowly.")
@click.option("--threads", type=click.IntRange(1), multiple=True, help="Default: 1, 2 and one a core.")
@click.option(
    "--encoding", metavar="FORMAT", help="How weights are packed: i2 or b3 (see `sterna compile --help`)."
)
@SIZE_OPTION
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE")
@click.option(
    "--reproducers",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("sterna-verify"),
    show_default=True,
    metavar="DIR",
    help="Where what differs is written.",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress bar, and no table: errors alone.")
def verify_command(
    path: Path,
    targets: tuple[str, ...] | None,
    against: tuple[str, ...],
    examples: int,
    seed: int,
    budget: float | None,
    emulate: bool,
    threads: tuple[int, ...],
    encoding: str | None,
    sizes: tuple[str, ...],
    json_file: Path | None,
    junit: Path | None,
    reproducers: Path,
    quiet: bool,
) -> int:
    from rich.console import Console

    from sterna.progress import reporting
    from sterna.verification.models import Model
    from sterna.verification.references import RUNTIMES
    from sterna.verification.report import WIDTH, print_report, write_json, write_junit
    from sterna.verification.verify import Request, installed_targets, verify

    if unknown := [name for name in against if name not in RUNTIMES]:
        raise click.UsageError(f"--against {unknown[0]}: expected one of {', '.join(RUNTIMES)}")
    if unknown := [name for name in targets or () if name not in installed_targets()]:
        raise click.UsageError(
            f"--targets {unknown[0]}: expected one of {', '.join(installed_targets())} (see `sterna targets`)"
        )
    for file in (json_file, junit):
        if file is not None and not file.parent.is_dir():
            raise click.UsageError(f"{file}: there is no directory {file.parent}")
    request = Request(
        model=Model(path, read_sizes(sizes).get("sizes", {}), encoding),
        targets=targets or (),
        against=against,
        examples=examples,
        seed=seed,
        budget=budget,
        emulate=emulate,
        threads=tuple(dict.fromkeys(threads)),
        reproducers=reproducers,
    )
    with reporting(quiet) as progress:
        report = verify(request, progress)
    console = Console(highlight=False, stderr=quiet)
    if not console.is_terminal:
        console = Console(highlight=False, stderr=quiet, width=WIDTH)
    if not quiet or report.bad:
        print_report(report, console)
    if json_file is not None:
        write_json(report, json_file)
    if junit is not None:
        write_junit(report, junit)
    return int(not report.is_green)
