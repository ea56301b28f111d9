"""The options that watch passes: one table, for `sterna-opt` (argparse) and `sterna compile` (click) alike."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

if TYPE_CHECKING:
    # The command line must start at once, and the compiler takes half a second to import.
    from xdsl.dialects.builtin import ModuleOp

    from sterna.dialects.weights import WeightStore
    from sterna.pass_runner import PassObserver

Command = TypeVar("Command", bound=Callable[..., Any])


def _about(text: str, *, metavar: str | None = None, kind: Any = str) -> dict[str, Any]:
    """What a field of `Instruments` is on the command line: a flag, or with `metavar` an option with a value."""
    return {"help": text, "metavar": metavar, "kind": kind}


@dataclass(frozen=True)
class WeightSource:
    """The store that passes and the interpreter read, and what `--weights` takes to open it again."""

    store: WeightStore | None = None
    name: str | None = None


@dataclass(frozen=True)
class Instruments:
    """What the command line says about watching passes. A field's name with dashes is its option."""

    print_ir_before: tuple[str, ...] = field(
        default=(), metadata=_about("Print the IR before a pass.", metavar="PASS")
    )
    print_ir_after: tuple[str, ...] = field(
        default=(), metadata=_about("Print the IR after a pass.", metavar="PASS")
    )
    print_ir_after_all: bool = field(default=False, metadata=_about("Print the IR after every pass."))
    print_ir_after_change: bool = field(
        default=False, metadata=_about("Print the IR after every pass that changed it.")
    )
    print_ir_diff: bool = field(
        default=False, metadata=_about("Print what every pass changed, as a unified diff.")
    )
    print_debuginfo: bool = field(
        default=False, metadata=_about("Print each operation with its source location.")
    )
    dump_ir_dir: Path | None = field(
        default=None,
        metadata=_about("Write the IR of every stage to a numbered file in DIR.", metavar="DIR", kind=Path),
    )
    time_passes: bool = field(default=False, metadata=_about("Print how long each pass took."))
    pass_statistics: bool = field(default=False, metadata=_about("Print what each pass did, counted."))
    verify_each: bool = field(
        default=False,
        metadata=_about("Interpret the IR before and after every pass: the results must agree."),
    )
    stop_after: str | None = field(
        default=None, metadata=_about("End the pipeline after PASS.", metavar="PASS")
    )
    run: bool = field(
        default=False,
        metadata=_about("Interpret the module when the passes are done, and print the results."),
    )
    input: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            "An input for --run, [NAME=]VALUE: a number, a list, a .npy or a .npz file. Others are generated.",
            metavar="INPUT",
        ),
    )
    rows: int | None = field(
        default=None,
        metadata=_about("Rows (tokens) of generated inputs. Default: 3.", metavar="N", kind=int),
    )
    seed: int = field(default=0, metadata=_about("Seed of generated inputs.", metavar="N", kind=int))
    reproducer: Path | None = field(
        default=None,
        metadata=_about(
            "Where a failing pass leaves its input. Default: the temporary directory.",
            metavar="FILE",
            kind=Path,
        ),
    )
    color: bool | None = field(
        default=None, metadata=_about("Colours on stderr. Default: if it is a terminal.")
    )

    @property
    def watches(self) -> bool:
        """Does any instrument print or write while the passes run?"""
        return any(
            (
                self.print_ir_before,
                self.print_ir_after,
                self.print_ir_after_all,
                self.print_ir_after_change,
                self.print_ir_diff,
                self.dump_ir_dir,
                self.time_passes,
                self.pass_statistics,
                self.verify_each,
            )
        )

    def interpret(self, module: ModuleOp, weights: WeightStore | None) -> str:
        """The results of the module on the inputs that the options give, as `--run` prints them."""
        from sterna.instruments.interpret import interpret

        return interpret(module, weights, inputs=self.input, rows=self.rows, seed=self.seed)

    def observers(self, weights: WeightSource) -> list[PassObserver]:
        """The instruments that are asked for, and always the one that writes reproducers."""
        from sterna.instruments.console import InstrumentConsole
        from sterna.instruments.dump import DumpIR
        from sterna.instruments.inputs import ROWS
        from sterna.instruments.printing import PrintDiff, PrintIR
        from sterna.instruments.reproducer import WriteReproducer
        from sterna.instruments.statistics import CountStatistics
        from sterna.instruments.timing import TimePasses
        from sterna.instruments.verify_each import VerifyEach

        console = InstrumentConsole(self.color)
        rows = self.rows or ROWS
        wanted: list[tuple[object, PassObserver]] = [
            (
                self.print_ir_before
                or self.print_ir_after
                or self.print_ir_after_all
                or self.print_ir_after_change,
                PrintIR(
                    console,
                    self.print_ir_before,
                    self.print_ir_after,
                    self.print_ir_after_all,
                    self.print_ir_after_change,
                    self.print_debuginfo,
                ),
            ),
            (self.print_ir_diff, PrintDiff(console)),
            (self.dump_ir_dir, DumpIR(self.dump_ir_dir or Path(), weights.name, self.print_debuginfo)),
            (self.verify_each, VerifyEach(console, weights.store, self.seed, rows)),
            (self.pass_statistics, CountStatistics(console)),
            (self.time_passes, TimePasses(console)),
            (True, WriteReproducer(self.reproducer, weights.name, self.verify_each, self.seed)),
        ]
        return [observer for asked, observer in wanted if asked]


def add_to_argparse(parser: argparse.ArgumentParser) -> None:
    """Adds every option; one that the parser has already becomes ours."""
    parser.conflict_handler = "resolve"
    group = parser.add_argument_group("watching passes")
    for option in fields(Instruments):
        flag, default, about = _flag(option.name), _default(option), option.metadata
        if option.name == "color":
            group.add_argument(flag, action=argparse.BooleanOptionalAction, help=about["help"])
        elif about["metavar"] is None:
            group.add_argument(flag, action="store_true", help=about["help"])
        elif default == ():
            group.add_argument(
                flag, action="append", metavar=about["metavar"], default=[], help=about["help"]
            )
        else:
            group.add_argument(
                flag, type=about["kind"], metavar=about["metavar"], default=default, help=about["help"]
            )


def click_options(command: Command) -> Command:
    """Decorates a click command with every option. Its function takes them as keywords."""
    for option in reversed(fields(Instruments)):
        flag, default, about = _flag(option.name), _default(option), option.metadata
        if option.name == "color":
            add = click.option(f"{flag}/--no-color", default=None, help=about["help"])
        elif about["metavar"] is None:
            add = click.option(flag, is_flag=True, help=about["help"])
        elif default == ():
            add = click.option(flag, multiple=True, metavar=about["metavar"], help=about["help"])
        else:
            kind = click.Path(path_type=Path) if about["kind"] is Path else about["kind"]
            add = click.option(flag, type=kind, metavar=about["metavar"], default=default, help=about["help"])
        command = add(command)
    return command


def from_options(values: Mapping[str, Any]) -> Instruments:
    """The instruments that parsed options ask for; other options are left out."""
    chosen = {option.name: values[option.name] for option in fields(Instruments) if option.name in values}
    return Instruments(**{name: _frozen(value) for name, value in chosen.items()})


def _frozen(value: Any) -> Any:
    return tuple(cast("list[str]", value)) if isinstance(value, list) else value


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _default(option: Any) -> Any:
    assert option.default is not MISSING, "every instrument has a default: off"
    return option.default
