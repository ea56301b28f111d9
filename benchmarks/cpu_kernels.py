"""How near the decode kernel of `ternary.project` is to what this machine's memory allows.

    python benchmarks/cpu_kernels.py --isa avx2 --threads 1 --threads 2 --shape 2560x2560 --megabytes 400
    python benchmarks/cpu_kernels.py --encoding i2 --encoding b3

One row of int8 activations meets ternary matrices. Cold goes through about `--megabytes` of different weights,
so that all of them come from memory; hot uses one matrix over and over. Beside each rate stands the floor:
packed weights read at the bandwidth that a plain reading loop reaches, in the same process, on as much memory,
with as many threads. Figures are of the quickest run.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from itertools import product
from time import perf_counter

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table
from xdsl.dialects.builtin import DenseArrayBase, IntegerAttr, ModuleOp, i64

from sterna.dialects.context import parse
from sterna.dialects.encodings import EncodingAttr
from sterna.dialects.ternary import ProjectOp, WeightOp
from sterna.targets.cpu import CpuTarget, codegen
from sterna.targets.cpu.isa import choose_isa
from sterna.targets.cpu.ports import aligned_bytes
from sterna.targets.cpu.team import Team
from sterna.targets.program import Program

Bytes = npt.NDArray[np.uint8]

SECONDS = 2.0
"""Of measuring, for each figure."""

READ = """
define i32 @read(ptr %memory, i64 %bytes) {
entry:
  br label %loop
loop:
  %at = phi i64 [ 0, %entry ], [ %next, %loop ]
  %s0 = phi <16 x i32> [ zeroinitializer, %entry ], [ %t0, %loop ]
  %s1 = phi <16 x i32> [ zeroinitializer, %entry ], [ %t1, %loop ]
  %s2 = phi <16 x i32> [ zeroinitializer, %entry ], [ %t2, %loop ]
  %s3 = phi <16 x i32> [ zeroinitializer, %entry ], [ %t3, %loop ]
  %p0 = getelementptr i8, ptr %memory, i64 %at
  %p1 = getelementptr i8, ptr %p0, i64 64
  %p2 = getelementptr i8, ptr %p0, i64 128
  %p3 = getelementptr i8, ptr %p0, i64 192
  %a0 = getelementptr i8, ptr %p0, i64 2048
  call void @llvm.prefetch.p0(ptr %a0, i32 0, i32 3, i32 1)
  %x0 = load <16 x i32>, ptr %p0, align 64
  %t0 = add <16 x i32> %s0, %x0
  %a1 = getelementptr i8, ptr %p1, i64 2048
  call void @llvm.prefetch.p0(ptr %a1, i32 0, i32 3, i32 1)
  %x1 = load <16 x i32>, ptr %p1, align 64
  %t1 = add <16 x i32> %s1, %x1
  %a2 = getelementptr i8, ptr %p2, i64 2048
  call void @llvm.prefetch.p0(ptr %a2, i32 0, i32 3, i32 1)
  %x2 = load <16 x i32>, ptr %p2, align 64
  %t2 = add <16 x i32> %s2, %x2
  %a3 = getelementptr i8, ptr %p3, i64 2048
  call void @llvm.prefetch.p0(ptr %a3, i32 0, i32 3, i32 1)
  %x3 = load <16 x i32>, ptr %p3, align 64
  %t3 = add <16 x i32> %s3, %x3
  %next = add i64 %at, 256
  %more = icmp slt i64 %next, %bytes
  br i1 %more, label %loop, label %done
done:
  %u = add <16 x i32> %t0, %t1
  %v = add <16 x i32> %t2, %t3
  %sum = add <16 x i32> %u, %v
  %r = call i32 @llvm.vector.reduce.add.v16i32(<16 x i32> %sum)
  ret i32 %r
}
declare i32 @llvm.vector.reduce.add.v16i32(<16 x i32>)
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)
"""
"""As the kernel reads: 256 bytes a turn, asked for 2048 bytes ahead."""


def program_of(encoding: EncodingAttr, rows: int, columns: int, matrices: int, *, hot: bool) -> ModuleOp:
    """`matrices` projections of the same quantized row, planned; all of one weight if `hot`."""
    trits = f"tensor<{rows}x{columns}x!ternary.trit, {encoding}>"
    q, step, y = f"tensor<?x{columns}xi8>", "tensor<?xf32>", f"tensor<?x{rows}xf32>"
    lines = [f"ternary.weight @w{n} : {trits}" for n in range(matrices)]
    lines += [
        "ternary.weight @scale : tensor<f32>",
        f"func.func @forward(%q : {q}, %step : {step}) -> {y} {{",
    ]
    lines += ["  %scale = ternary.load @scale : tensor<f32>"]
    for n in range(matrices):
        lines += [
            f"  %w{n} = ternary.load @w{n} : {trits}",
            f"  %y{n} = ternary.project quantized(%q : {q}) steps(%step : {step}) weights(%w{n} : {trits}) "
            f"scales(%scale : tensor<f32>) reads = [0] {{",
            f"  ^bb0(%a : f32):\n    ternary.yield %a : f32\n  }} -> {y}",
        ]
    lines += [f"  func.return %y{matrices - 1} : {y}", "}"]
    module = parse("\n".join(lines))
    place(module, encoding.packed_bytes(rows, columns), hot=hot)
    return module


def place(module: ModuleOp, weight_bytes: int, *, hot: bool) -> None:
    """The plan: results in one place of the arena, weights one after the other (or all in one place)."""
    weights = [op for op in module.ops if isinstance(op, WeightOp)]
    offsets = [64 + (0 if hot else n * weight_bytes) for n in range(len(weights) - 1)]
    for weight, offset in zip(weights, [*offsets, 0], strict=True):
        weight.attributes["offset"] = IntegerAttr(offset, i64)
    projects = [op for op in module.walk() if isinstance(op, ProjectOp)]
    for op in projects:
        op.attributes["arena"] = DenseArrayBase.from_list(i64, [-1 if op is projects[-1] else 0])
    (function,) = (op for op in module.ops if op.name == "func.func")
    function.attributes["ternary.arena_bytes"] = IntegerAttr(1 << 20, i64)
    module.attributes["ternary.max_rows"] = IntegerAttr(1, i64)
    module.attributes["ternary.weights_bytes"] = IntegerAttr(offsets[-1] + weight_bytes, i64)


def random_weights(size: int) -> Bytes:
    """Valid fields of i2: none is 3. In b3 every byte is five trits."""
    generator = np.random.default_rng(0)
    data = aligned_bytes(size)
    low = generator.integers(0, 256, size, np.uint8) & 0x55
    high = generator.integers(0, 256, size, np.uint8) & 0x55 & ~low
    np.bitwise_or(low, high << 1, out=data)
    data[:64].view(np.float32)[0] = 1.0
    return data


def best_seconds(run: Callable[[], object]) -> float:
    """Of the quickest run: what the machine can do when nobody else wants it."""
    run()
    times: list[float] = []
    while sum(times) < SECONDS or len(times) < 5:
        begin = perf_counter()
        run()
        times.append(perf_counter() - begin)
    return min(times)


def bandwidth(memory: Bytes, threads: int, features: str, working_set: int) -> float:
    """Bytes a second of reading `working_set` bytes, again and again if it is small."""
    code = codegen.LoadedCode.of(codegen.compile_object(READ, codegen.X86_TRIPLE, features))
    read = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64)(code.address("read"))
    team, start = Team(threads), memory.ctypes.data
    share = working_set // threads // 256 * 256
    repeats = max(1, (8 << 20) // working_set)

    def read_share(thread: int) -> None:
        for _ in range(repeats):
            read(start + thread * share, share)

    return repeats * threads * share / best_seconds(lambda: team.run(read_share))


def rate(
    encoding: EncodingAttr, rows: int, columns: int, weights: Bytes, isa: str, threads: int, *, hot: bool
) -> float:
    """Weights a second of the kernel."""
    matrices = max(2, (weights.nbytes - 64) // encoding.packed_bytes(rows, columns))
    module = program_of(encoding, rows, columns, matrices, hot=hot)
    program, target = Program.of(module), CpuTarget()
    object = {f"kernels.{isa}.o": target.build_object(module, isa)}
    executable = target.load(object, program, weights[: program.weights_bytes], threads=threads, isa=isa)
    q = np.random.default_rng(1).integers(-127, 128, (1, columns), np.int8)
    seconds = best_seconds(lambda: executable.run([q, np.ones(1, np.float32)]))
    return matrices * rows * columns / seconds


@click.command()
@click.option("--isa", default=None, help="Instruction set; default: the best of this machine.")
@click.option("--threads", "team_sizes", multiple=True, type=int, default=(1, 2), show_default=True)
@click.option("--shape", "shapes", multiple=True, default=("2560x2560", "6912x2560"), show_default=True)
@click.option(
    "--encoding", "encodings", multiple=True, default=tuple(EncodingAttr.FORMATS), show_default=True
)
@click.option("--megabytes", default=400, show_default=True)
def main(
    isa: str | None,
    team_sizes: tuple[int, ...],
    shapes: tuple[str, ...],
    encodings: tuple[str, ...],
    megabytes: int,
) -> None:
    """Giga-weights a second of the decode kernel, beside the floor that memory sets."""
    chosen = choose_isa(isa)
    weights = random_weights(megabytes << 20)
    table = Table(title=f"project, one row, {chosen.name}: G weights/s (floor at measured read bandwidth)")
    for column in ("shape", "encoding", "threads", "cold", "floor", "of floor", "hot", "floor", "of floor"):
        table.add_column(column, justify="right")
    for shape in shapes:
        rows, columns = (int(size) for size in shape.split("x"))
        for threads, name in product(team_sizes, encodings):
            encoding = EncodingAttr.of(name)
            cells, size = [shape, name, str(threads)], encoding.packed_bytes(rows, columns)
            for hot, working_set in ((False, weights.nbytes), (True, size)):
                found = rate(encoding, rows, columns, weights, chosen.name, threads, hot=hot)
                weights_a_byte = rows * columns / size
                floor = bandwidth(weights, threads, chosen.features, working_set) * weights_a_byte
                cells += [f"{found / 1e9:.1f}", f"{floor / 1e9:.1f}", f"{found / floor:.0%}"]
            table.add_row(*cells)
    Console().print(table)


if __name__ == "__main__":
    main()
