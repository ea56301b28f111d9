"""Compiling in memory: imported IR to an executable for this machine alone, without a file and without an artifact.

    run = sterna.jit(module, weights)
    (y,) = run.run([x])

A small program takes some 50 ms, of which LLVM takes half.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from xdsl.dialects.builtin import ModuleOp

from sterna.artifact_writer import placed_weights
from sterna.dialects import packing
from sterna.dialects.context import make_context
from sterna.dialects.interpreter import ModuleInterpreter
from sterna.dialects.weights import WeightStore
from sterna.lowering import parse_passes
from sterna.pass_runner import run_passes
from sterna.plugins import configured_target, find_target
from sterna.targets.program import Program

if TYPE_CHECKING:
    from sterna.targets import Bytes, Executable


def jit(
    module: ModuleOp,
    weights: WeightStore | None = None,
    target: str = "cpu",
    *,
    max_rows: int = 64,
    threads: int | None = None,
    isa: str | None = None,
    emulate: bool = False,
    target_options: Mapping[str, str] | None = None,
) -> Executable:
    """The module, at the stage *imported*, as an executable of one instruction set: `isa`, or this machine's best.

    With `emulate`, a level that this machine lacks runs on it, slowly. `target_options` are the target's own, as
    `{"encoding": "b3"}`.

    The module stays as it is, and `weights` is read now. CompileError says what cannot be compiled and where.
    """
    chosen = configured_target(target, target_options or {})
    planned = module.clone()
    passes = parse_passes(chosen, chosen.pipeline(max_rows=max_rows))
    # Verified once, at the end: after each of ten passes it would take as long as LLVM does.
    run_passes(make_context(weights), planned, passes, verify=False)
    planned.verify()
    return load_planned(planned, weights, target, threads=threads, isa=isa, emulate=emulate)


def load_planned(
    planned: ModuleOp,
    weights: WeightStore | None = None,
    target: str = "cpu",
    *,
    threads: int | None = None,
    isa: str | None = None,
    emulate: bool = False,
) -> Executable:
    """The same of a module that `plan-memory` has planned, such as a test writes it."""
    chosen = find_target(target)
    # A target of somebody else's need not know how to emulate.
    files = chosen.build_here(planned, isa=isa, **({"emulate": True} if emulate else {}))
    program = Program.of(planned)
    return chosen.load(files, program, pack_weights(planned, weights), threads=threads, isa=isa)


def pack_weights(planned: ModuleOp, weights: WeightStore | None) -> Bytes:
    """The bytes that a planned module's offsets point into."""
    placed = placed_weights(planned)
    packed = np.zeros(sum(weight.bytes for weight in placed), np.uint8)
    interpreter = ModuleInterpreter(planned, weights)
    for weight in placed:
        value = packing.pack(interpreter.weight(weight.name), weight.op.type)
        packed[weight.offset : weight.offset + weight.bytes] = value
    return packed
