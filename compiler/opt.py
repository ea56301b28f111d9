"""`sterna-opt`: runs passes on IR text. xDSL's opt tool with our dialects, our passes, and weights.

sterna-opt model.mlir -p 'raise-bit-linear,fold-weights,plan-memory{max-rows=8}' --weights random
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import IO, ClassVar

from xdsl.dialects.builtin import ModuleOp
from xdsl.passes import ModulePass, PassPipeline
from xdsl.utils.arg_spec import parse_pipeline
from xdsl.xdsl_opt_main import xDSLOptMain

from sterna import passes
from sterna.diagnostics import INPUT_ERRORS, one_line
from sterna.dialects.context import read, verify
from sterna.dialects.errors import CompileError
from sterna.dialects.fixed import Fixed
from sterna.dialects.llvm_vector import LLVMVector
from sterna.dialects.stream import Stream
from sterna.dialects.ternary import Ternary, WeightOp
from sterna.dialects.weights import RandomStore, SternaContext, WeightStore
from sterna.instruments.options import WeightSource, add_to_argparse, from_options
from sterna.instruments.reproducer import read_configuration
from sterna.pass_runner import run_passes
from sterna.plugins import find_target, target_names


def random_store(module: ModuleOp, seed: int = 0) -> RandomStore:
    """Random numbers of the right shapes for every weight of the module that is not derived from others."""
    stored = (op for op in module.walk() if isinstance(op, WeightOp) and op.body is None)
    return RandomStore({op.sym_name.data: op.type.get_shape() for op in stored}, seed)


def open_weights(source: str, module: ModuleOp) -> WeightStore:
    """What `--weights` names: `random`, `random:SEED`, a safetensors file or a checkpoint directory."""
    kind, _, seed = source.partition(":")
    if kind == "random":
        if seed and not seed.isdecimal():
            raise CompileError(
                f"--weights {source}: expected random:SEED with an integer seed, found '{seed}'"
            )
        return random_store(module, int(seed or 0))
    from sterna.frontends.huggingface import Checkpoint, SafetensorsFile

    path = Path(source)
    return Checkpoint(path) if path.is_dir() else SafetensorsFile(path)


def portable_source(source: str) -> str:
    """What `--weights` takes in any directory."""
    return source if source.partition(":")[0] == "random" else str(Path(source).resolve())


class SternaOptMain(xDSLOptMain):
    version_format: ClassVar[str] = "sterna-opt on xDSL {xdsl_version}"

    def __init__(self, args: Sequence[str] | None = None) -> None:
        super().__init__("Runs passes on IR text.", args)

    def register_all_dialects(self) -> None:
        self.ctx: SternaContext = SternaContext()
        super().register_all_dialects()
        self.ctx.register_dialect("ternary", lambda: Ternary)
        self.ctx.register_dialect("fixed", lambda: Fixed)
        self.ctx.register_dialect("stream", lambda: Stream)
        self.ctx.register_dialect("llvm_vector", lambda: LLVMVector)

    def register_all_passes(self) -> None:
        super().register_all_passes()
        ours: dict[str, type[ModulePass]] = dict(getattr(passes, "PASSES", {}))
        for name in target_names():
            ours |= find_target(name).passes()
        for name, pass_type in ours.items():
            self.register_pass(name, _constant(pass_type))

    def register_all_arguments(self, arg_parser: argparse.ArgumentParser) -> None:
        super().register_all_arguments(arg_parser)
        arg_parser.prog = "sterna-opt"
        arg_parser.add_argument(
            "--weights",
            metavar="PATH|random[:SEED]",
            help="where passes read weights: a safetensors file, a checkpoint directory, or random numbers",
        )
        arg_parser.add_argument(
            "--run-reproducer", action="store_true", help="run what the configuration line of the input says"
        )
        add_to_argparse(arg_parser)

    def setup_pipeline(self) -> None:
        if self.args.run_reproducer:
            self._configure(Path(self.args.input_file or ""))
        self.instruments = from_options(vars(self.args))
        for spec in parse_pipeline(self.args.passes):
            if spec.name not in self.available_passes:
                close = get_close_matches(spec.name, self.available_passes, n=1)
                hint = f"; did you mean '{close[0]}'?" if close else ""
                raise CompileError(f"unknown pass '{spec.name}'{hint}")
        self.pipeline = PassPipeline.parse_spec(self.available_passes, self.args.passes)

    def _configure(self, reproducer: Path) -> None:
        configuration = read_configuration(reproducer)
        self.args.passes = configuration.passes
        self.args.weights = self.args.weights or configuration.weights
        self.args.verify_each = self.args.verify_each or configuration.verify_each
        self.args.seed = self.args.seed or configuration.seed

    def apply_passes(self, prog: ModuleOp) -> None:
        if self.args.verify_diagnostics:
            prog.verify()  # its errors are what that option prints
        elif not self.args.disable_verify:
            verify(prog, self.get_input_name())
        source = WeightSource(self.ctx.weights, self.args.weights and portable_source(self.args.weights))
        run_passes(
            self.ctx,
            prog,
            self.pipeline.passes,
            self.instruments.observers(source),
            stop_after=self.instruments.stop_after,
            verify=not self.args.disable_verify,
        )

    def output_resulting_program(self, prog: ModuleOp) -> str:
        if self.instruments.run:
            return self.instruments.interpret(prog, self.ctx.weights)
        return super().output_resulting_program(prog)

    def prepare_input(self) -> tuple[list[tuple[IO[bytes], int]], str]:
        # Text is MLIR whatever the file is called, unless --frontend says otherwise.
        self.args.frontend = self.args.frontend or "mlir"
        return super().prepare_input()

    def parse_chunk(self, chunk: IO[bytes], file_extension: str, start_offset: int = 0) -> ModuleOp | None:
        if file_extension == "mlir":
            text = chunk.read().decode("utf-8")
            implicit = not self.args.no_implicit_module
            name = self.get_input_name()
            module = read(text, name, self.ctx, line=start_offset + 1, implicit_module=implicit)
        else:
            module = super().parse_chunk(chunk, file_extension, start_offset)
        if module is not None and self.args.weights is not None:
            self.ctx.weights = open_weights(self.args.weights, module)
        return module


def _constant(pass_type: type[ModulePass]) -> Callable[[], type[ModulePass]]:
    return lambda: pass_type


def main(args: Sequence[str] | None = None) -> int:
    """Exit code 0, or 1 with one line on stderr; argparse exits with 2 for a wrong option."""
    try:
        SternaOptMain(args).run()
    except INPUT_ERRORS as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        return 1
    except UnicodeDecodeError as error:
        print(f"error: the input is not UTF-8 text: {error.reason}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
