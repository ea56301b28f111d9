"""The command line: `sterna run | compile | verify | inspect | export | opt | reduce | targets`.

Text goes to stdout, everything else to stderr.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from sterna import __version__
from sterna.export_command import export_command
from sterna.fixed_point_command import fixed_point_command
from sterna.inspector.command import inspect_command
from sterna.instruments.options import click_options, from_options
from sterna.run_command import run_command
from sterna.size_option import CONTEXT_OPTION, SIZE_OPTION, source_options
from sterna.target_options import CompileCommand, makes_project, split_options
from sterna.verification.command import verify_command

EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_TERMINATED = 128 + signal.SIGTERM
EXIT_BROKEN_PIPE = 128 + signal.SIGPIPE

OVERVIEW = """Compile MatMul-free (ternary) models, of language and others, and run them.

\b
Examples:
  sterna run examples/checkpoints/matmulfree-shakespeare --prompt "ROMEO:"
  sterna compile examples/checkpoints/matmulfree-shakespeare -o model.sterna
  sterna run model.sterna --prompt "ROMEO:" --greedy
  sterna compile examples/checkpoints/matmulfree-shakespeare --emit mlir --stage raised
  sterna compile network.onnx -o network.sterna
  sterna run network.sterna --input x=x.npy --output y.npz
"""

COMPILE_HELP = """Compile SOURCE to an artifact, or print what the compiler makes of it.

SOURCE is a checkpoint (a directory with config.json, *.safetensors and a tokenizer), or a model in a .onnx file.
An artifact is a folder with everything that `sterna run` needs; it replaces an artifact of that name, and nothing else.
A transformer keeps the keys and values of a text, in memory for --context tokens; longer texts are an error.
Sizes that an ONNX model leaves open are given by --size: a number, or T for the one that may differ from run to run.

\b
Examples:
  sterna compile CHECKPOINT -o model.sterna
  sterna compile network.onnx -o network.sterna
  sterna compile network.onnx --size batch=1 --size seq=T -o network.sterna
  sterna compile BITNET --context 2048 -o bitnet.sterna
  sterna compile CHECKPOINT --emit mlir --stage imported
  sterna compile CHECKPOINT --emit mlir --stage fuse-projections
  sterna compile CHECKPOINT --emit asm --isa avx2 | less
  sterna compile CHECKPOINT --target triton --emit ptx --isa cuda:80
  sterna compile CHECKPOINT --encoding b3 -o model.sterna
  sterna compile CHECKPOINT --target verilog --device ecp5-85k -o build/fpga

\b
A target may have options of its own, and may write a folder for other tools in place of an artifact:
  sterna compile --target verilog --help
"""

REDUCE_HELP = """Shrink the module in FILE while a command fails on it in the same way.

The same way is: the same exit code and, where the command names them as sterna-opt does, the same failing pass and kind
of error.

\b
Examples:
  sterna reduce big.mlir --command 'sterna-opt {} -p fuse-projections' -o small.mlir
  sterna reduce big.mlir --command 'sterna-opt {} --verify-each -p raise-bit-linear --weights random' -o small.mlir
  sterna reduce big.mlir --command 'mlir-opt {}' --output-matches 'Assertion .* failed'
"""

OPT_HELP = """Run passes on IR text, as `sterna-opt` does; `sterna opt --help` lists the passes."""


@click.group(
    help=OVERVIEW, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def commands() -> None: ...


@commands.command(
    name="compile",
    cls=CompileCommand,
    help=COMPILE_HELP,
    short_help="Compile a checkpoint, or look inside.",
)
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--target", default="cpu", show_default=True, help="What to compile for (see `sterna targets`)."
)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), help="The artifact to write, or the file for --emit."
)
@click.option(
    "--emit",
    "kind",
    help="Print mlir, or what the target emits (cpu: llvm, asm; triton: triton, ttir, ptx), not an artifact.",
)
@click.option(
    "--stage", help="With --emit mlir: imported, raised, fused, scheduled, or any pass. Default: the last."
)
@click.option("--isa", help="With --emit of code: the instruction set (avx2, cuda:90, ...).")
@click.option(
    "--max-rows", type=click.IntRange(1, 4096), default=64, show_default=True, help="Tokens a kernel takes."
)
@CONTEXT_OPTION
@SIZE_OPTION
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors.")
@click_options
def compile_(
    source: Path,
    target: str,
    output: Path | None,
    kind: str | None,
    stage: str | None,
    isa: str | None,
    max_rows: int,
    context: int | None,
    sizes: tuple[str, ...],
    quiet: bool,
    **others: Any,
) -> None:
    target_options, watching = split_options(target, others)
    instruments = from_options(watching)
    if instruments.stop_after is not None:
        if stage is not None:
            raise click.UsageError("--stop-after and --stage say the same: give one")
        stage = instruments.stop_after
    if kind is None and (instruments.stop_after is not None or instruments.run):
        kind = "mlir"
    if output is None and kind is None and not instruments.watches:
        raise click.UsageError("say where the artifact goes with -o, or what to print with --emit")
    if (stage is not None or instruments.run) and kind != "mlir":
        raise click.UsageError("--stage, --stop-after and --run go with --emit mlir")
    from sterna import api
    from sterna.progress import reporting

    if kind is not None or output is None:
        with reporting(quiet or instruments.watches) as progress:
            text = api.emit(
                source,
                kind or "mlir",
                target,
                stage=stage,
                isa=isa,
                max_rows=max_rows,
                target_options=target_options,
                progress=progress,
                instruments=instruments,
                **source_options(sizes, context),
            )
        if output is not None:
            output.write_text(text, encoding="utf-8")
        elif kind is not None:
            sys.stdout.write(text)
    elif makes_project(target):
        with reporting(quiet or instruments.watches) as progress:
            said = api.build_project(
                source,
                output,
                target,
                target_options=target_options,
                progress=progress,
                instruments=instruments,
                **source_options(sizes, context),
            )
        if not quiet:
            click.echo(f"{output}: {said}", err=True)
    else:
        with reporting(quiet or instruments.watches) as progress:
            api.build(
                source,
                output,
                target,
                max_rows=max_rows,
                target_options=target_options,
                progress=progress,
                instruments=instruments,
                **source_options(sizes, context),
            )
        if not quiet:
            click.echo(_summary(output), err=True)


@commands.command(
    help=OPT_HELP,
    short_help="Run passes on IR text.",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def opt(args: Sequence[str]) -> int:
    from sterna.opt import main as opt_main

    return opt_main(args)


@commands.command(help=REDUCE_HELP, short_help="Shrink a module that makes a command fail.")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--command", "command_line", required=True, help="The command that fails; {} is the file.")
@click.option(
    "--output-matches",
    "pattern",
    metavar="REGEX",
    help="What the command must print, whatever its exit code. Default: it fails as it does on FILE.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: stdout.")
@click.option(
    "--timeout", type=click.FloatRange(0, min_open=True), default=60.0, show_default=True, metavar="SECONDS"
)
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors.")
def reduce(
    file: Path, command_line: str, pattern: str | None, output: Path | None, timeout: float, quiet: bool
) -> None:
    from sterna.progress import reporting
    from sterna.reduction import reduce_file

    with reporting(quiet) as progress:
        reduced = reduce_file(file, command_line, pattern, seconds=timeout, progress=progress)
    if output is None:
        sys.stdout.write(reduced.text)
    else:
        output.write_text(reduced.text, encoding="utf-8")
    if not quiet:
        click.echo(reduced.summary, err=True)


commands.add_command(run_command)
commands.add_command(inspect_command)
commands.add_command(export_command)
commands.add_command(verify_command)
commands.add_command(fixed_point_command)


@commands.command()
def targets() -> None:
    """What this machine compiles for, and what it can run."""
    from sterna.plugins import find_target, target_names
    from sterna.targets import ConfigurableTarget

    for name in target_names():
        target = find_target(name)
        click.echo(f"{name:8} emits {', '.join(('mlir', *target.emits))}")
        if isinstance(target, ConfigurableTarget):
            click.echo(f"{'':8} takes {', '.join(f'--{option.name}' for option in target.options)}")
        for line in target.describe_host():
            click.echo(f"{'':8} {line}")


def _summary(path: Path) -> str:
    from rich.filesize import decimal

    from sterna.artifact import read_manifest

    facts = read_manifest(path).model
    encoding = f" ({facts.encoding})" if facts.encoding else ""
    return (
        f"{path}: {facts.parameters / 1e6:.1f} M parameters, {facts.ternary_parameters / 1e6:.1f} M of them ternary "
        f"at {facts.bits_per_ternary_weight:.2f} bits{encoding}; {decimal(facts.packed_bytes)} of weights"
    )


def _accept_any_text() -> None:
    """A character that the terminal's encoding lacks, or a byte that is no character, must not end the program."""
    for stream in (sys.stdin, sys.stdout):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _stop(signum: int, frame: FrameType | None) -> NoReturn:
    # As an exception, so that temporary files are removed on the way out.
    raise SystemExit(EXIT_TERMINATED)


def main(args: Sequence[str] | None = None) -> int:
    """Runs a command; its exit code. Wrong input is one line on stderr and 1, wrong usage 2, Ctrl-C 130."""
    try:
        signal.signal(signal.SIGTERM, _stop)
        _accept_any_text()
        return _quietly(lambda: commands.main(args=args, prog_name="sterna", standalone_mode=False))
    except click.UsageError as error:
        error.show()
        return EXIT_USAGE
    except click.ClickException as error:
        error.show()
        return EXIT_ERROR
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader went away. Python would complain once more when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE


def _quietly(command: Callable[[], Any]) -> int:
    """Runs the command; what is wrong with the input is said in one line."""
    try:
        return command() or 0
    except BrokenPipeError:
        raise
    except Exception as error:
        from sterna.diagnostics import INPUT_ERRORS, one_line

        if not isinstance(error, INPUT_ERRORS):
            raise
        click.echo(f"error: {one_line(error)}", err=True)
        return EXIT_ERROR


if __name__ == "__main__":
    sys.exit(main())
