"""Everything about the GPU target that needs a GPU, in one run of under ten minutes: right first, then how fast.

    python benchmarks/gpu.py                      # both steps, where Sterna and a GPU are
    python benchmarks/gpu.py --prepare-only       # anywhere: emits kernels and computes what is expected, in build/gpu
    python benchmarks/gpu.py --folder build/gpu   # on a machine with a GPU: needs torch and triton, not Sterna

It compares the shipped model with Sterna's interpreter bit for bit, token by token and at once, and products of the
published shapes with exact sums. Then, for those shapes with random weights: tokens a second of decoding for 1 to
256 texts, of a prompt of 4096 tokens, bytes of memory. Beside each stands its floor on this device, measured in the
same run: packed weights at the bandwidth of reading memory, int8 products at the rate of the vendor's library; and
what torch does with the same shapes in bf16. Results go to FOLDER/results.json, and a table to stdout.
"""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any

import click

SIZES = ("370M", "1.3B", "2.7B")
TEXTS = (1, 4, 16, 64, 256)
PROMPT = 4096
MODEL = Path("examples/checkpoints/matmulfree-shakespeare")
TOKENS = 48
"""Of the comparison with the interpreter."""
TRITS = "torch.uint8"

Results = dict[str, Any]


def prepare(folder: Path) -> None:
    """What needs the compiler: the shipped model with what the interpreter makes of it, and the published shapes."""
    import numpy as np

    from examples.random_checkpoint import PUBLISHED
    from sterna.api import load_source
    from sterna.dialects.interpreter import ModuleInterpreter
    from sterna.dialects.weights import RandomStore
    from sterna.frontends.checkpoint import import_hgrn_bit
    from sterna.in_memory import pack_weights
    from sterna.lowering import lower
    from sterna.plugins import find_target

    class Shapes(RandomStore):
        """Published checkpoints are in half precision; no pass reads their numbers."""

        def dtype(self, name: str) -> str:
            return "F16"

    target = find_target("triton")
    folder.mkdir(parents=True, exist_ok=True)
    imported = load_source(MODEL, None)
    lower(imported.module, imported.weights, target)
    (folder / "shipped.py").write_text(target.emit(imported.module, "triton"))
    pack_weights(imported.module, imported.weights).tofile(folder / "shipped.bin")
    tokens = np.random.default_rng(0).integers(0, 1024, TOKENS)
    states = [np.zeros(256, np.float32)] * 4
    results = ModuleInterpreter(imported.module, imported.weights).run([tokens, *states])
    names = ("logits", *(f"state_{n}" for n in range(len(states))))
    np.savez(folder / "expected.npz", tokens=tokens, **dict(zip(names, results, strict=True)))
    for size in SIZES:
        config = PUBLISHED[size]
        module = import_hgrn_bit(config)
        lower(module, Shapes(config.tensor_shapes()), target)
        (folder / f"{size}.py").write_text(target.emit(module, "triton"))
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout
    (folder / "commit").write_text(commit.strip() + "\n")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"emitted_{path.stem.replace('.', '_')}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def random_weights(module: Any, device: Any) -> dict[str, Any]:
    """Numbers like a trained model's for every weight of an emitted file, made on the device."""
    import torch

    generator = torch.Generator(device).manual_seed(0)
    size = max(offset + length for offset, length, _ in module.WEIGHTS.values())
    packed = torch.empty(size, dtype=torch.uint8, device=device)
    weights = module.unpack_weights(packed)
    for name, weight in weights.items():
        if str(weight.dtype) == TRITS:
            fields = [
                torch.randint(0, 3, weight.shape, dtype=torch.uint8, device=device, generator=generator)
                for _ in range(4)
            ]
            weight.copy_(fields[0] | fields[1] << 2 | fields[2] << 4 | fields[3] << 6)
        elif name.endswith(".scale"):
            weight.fill_(0.02)
        else:
            spread, centre = (0.02, 0.0) if weight.dtype == torch.float16 else (0.1, 1.0)
            weight.copy_(
                torch.randn(weight.shape, device=device, generator=generator).mul_(spread).add_(centre)
            )
    return weights


# Compiling takes a core some seconds a kernel, so all cores do it, into Triton's cache on disk.


def kernels_of(module: Any) -> Iterator[Any]:
    for value in vars(module).values():
        if isinstance(value, module.Product):
            yield value


def compile_share(path: Path, number: int, workers: int) -> None:
    """Compiles this worker's share of the configurations of a file: nothing is launched."""
    import torch
    from triton.runtime.autotuner import Autotuner
    from triton.runtime.jit import JITFunction

    module: Any = load(path)
    device = torch.device("cuda")
    weights = random_weights(module, device)
    launch, seen = JITFunction.run, iter(range(1 << 30))

    def only_compile(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        if next(seen) % workers == number:
            launch(self, *args, grid=grid, warmup=True, **options)

    def every_configuration(self: Any, *args: Any, **options: Any) -> None:
        for config in self.configs:
            self.fn.run(*args, **options, **config.all_kwargs())

    JITFunction.run = only_compile
    Autotuner.run = every_configuration
    for texts, length in ((1, 1), (4, 1), (16, 1), (1, PROMPT)):
        batch = module.Batch(texts, length, device)
        tokens = torch.zeros(texts * length, dtype=torch.int64, device=device)
        states = [batch.empty((texts, columns), torch.float32) for columns in module.STATES]
        module.forward(batch, weights, tokens, *states)


def compile_on_all_cores(folder: Path) -> None:
    workers = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    for path in (folder / "shipped.py", *(folder / f"{size}.py" for size in SIZES)):
        processes = [
            context.Process(target=compile_share, args=(path, number, workers)) for number in range(workers)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()


def seconds(call: Callable[[], object], *, least: float = 0.2) -> float:
    """Of one call, the median of several on the device."""
    import torch

    call()
    torch.cuda.synchronize()
    times: list[float] = []
    while len(times) < 5 or (sum(times) < least and len(times) < 1000):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    return sorted(times)[len(times) // 2]


def floors(device: Any) -> Results:
    """What the device does at best: reading and copying memory, int8 and bf16 products of torch's library."""
    import torch

    data = torch.empty(1 << 30, dtype=torch.uint8, device=device)
    other = torch.empty_like(data)
    words = data.view(torch.int64)
    n = 8192
    a, b = (torch.randint(-128, 128, (n, n), dtype=torch.int8, device=device) for _ in range(2))
    x, y = (torch.randn(n, n, dtype=torch.bfloat16, device=device) for _ in range(2))
    return {
        "read_bytes_per_second": data.nbytes / seconds(lambda: words.sum()),
        "copy_bytes_per_second": 2 * data.nbytes / seconds(lambda: other.copy_(data)),
        "int8_operations_per_second": 2 * n**3 / seconds(lambda: torch._int_mm(a, b.t())),
        "bf16_operations_per_second": 2 * n**3 / seconds(lambda: x @ y),
    }


def check_shipped(folder: Path, device: Any) -> Results:
    """The shipped model gives the interpreter's bits: at once, step by step in a graph, and for several texts."""
    import numpy as np
    import torch

    module: Any = load(folder / "shipped.py")
    packed = torch.from_numpy(np.fromfile(folder / "shipped.bin", np.uint8)).to(device)
    expected = dict(np.load(folder / "expected.npz"))
    weights, tokens = module.unpack_weights(packed), torch.from_numpy(expected["tokens"]).to(device)

    def same(found: Any, wanted: Any) -> bool:
        values = found.cpu().numpy().reshape(wanted.shape)
        return bool(np.array_equal(values.view(np.int32), wanted.view(np.int32)))

    batch = module.Batch(1, len(tokens), device)
    zeros = [batch.empty((1, columns), torch.float32).zero_() for columns in module.STATES]
    logits, *states = module.forward(batch, weights, tokens, *zeros)
    checks = {"a prompt at once": same(logits, expected["logits"])}
    checks["its states"] = all(same(state, expected[f"state_{n}"]) for n, state in enumerate(states))
    for texts in (1, 2, 8):
        decoder = module.Decoder(weights, device, texts)
        rows: list[Any] = []
        for token in tokens:
            decoder.tokens.fill_(int(token))
            decoder.step()
            rows.append(decoder.logits.clone())
        steps = torch.stack(rows, 1)
        checks[f"step by step, {texts} texts"] = all(same(text, expected["logits"]) for text in steps)
    return checks


def check_products(module: Any, weights: dict[str, Any], device: Any) -> Results:
    """The products of the head with random rows are exact, for few rows and for many."""
    import torch

    columns = weights["model.norm.weight"].numel()
    packed = weights["lm_head.trits"]
    across = -(-columns // 256)
    fields = packed.view(-1, across, 4, 64).transpose(1, 2).reshape(-1, across, 64)
    trits = torch.stack([(fields >> 2 * f) & 3 for f in range(4)], 2).reshape(-1, across * 256)[:, :columns]
    head = [each for each in kernels_of(module) if each.m == len(trits)][-1]
    checks: Results = {}
    for rows in (1, 2, 3, 4, 5, 64, 200):
        batch = module.Batch(1, rows, device)
        q = batch.empty((rows, columns), torch.int8)
        q.copy_(torch.randint(-128, 128, q.shape, device=device))
        step, scale = torch.ones(rows, device=device), torch.ones(1, device=device)
        out = batch.empty((rows, head.m), torch.float32)
        head(rows, packed, q, step, scale, out)
        exact = q.double() @ (trits.double() - 1).t()
        checks[f"{head.m} x {columns}, {rows} rows"] = bool((out.double() == exact).all())
    return checks


def products_at_one_row(module: Any, weights: dict[str, Any], device: Any, floor: float) -> Results:
    """How near the product of the head, one row, is to the bandwidth of reading memory."""
    import torch

    columns, packed = weights["model.norm.weight"].numel(), weights["lm_head.trits"]
    head = [each for each in kernels_of(module) if each.m * -(-columns // 256) * 64 == packed.numel()][-1]
    # Copies, so that each call reads weights that are in no cache.
    copies = [packed.clone() for _ in range(max(2, (1 << 28) // packed.numel()))]
    batch = module.Batch(1, 1, device)
    q = batch.empty((1, columns), torch.int8).fill_(1)
    one, out = torch.ones(1, device=device), batch.empty((1, head.m), torch.float32)
    head(1, packed, q, one, one, out)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for copy in copies:
            head(1, copy, q, one, one, out)
    rate = packed.numel() * len(copies) / seconds(graph.replay)
    return {
        "shape": [head.m, columns],
        "bytes_per_second": rate,
        "of_reading": rate / floor,
        "configuration": str(head.few.best_config),
    }


def measure(module: Any, device: Any, floor: Results) -> Results:
    import torch

    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    weights = random_weights(module, device)
    trits = sum(weight.numel() for weight in weights.values() if str(weight.dtype) == TRITS)
    results: Results = {
        "packed_bytes": trits,
        "weights_bytes": sum(weight.numel() * weight.element_size() for weight in weights.values()),
        "floor_seconds": trits / floor["read_bytes_per_second"],
        "products": check_products(module, weights, device),
        "head": products_at_one_row(module, weights, device, floor["read_bytes_per_second"]),
        "decode": {},
    }
    for texts in TEXTS:
        decoder = module.Decoder(weights, device, texts)
        decoder.step()
        torch.cuda.reset_peak_memory_stats()
        time = seconds(decoder.step)
        results["decode"][texts] = {
            "seconds": time,
            "tokens_per_second": texts / time,
            "of_floor": results["floor_seconds"] / time,
            "peak_bytes": torch.cuda.max_memory_allocated(),
        }
        del decoder
    decoder = module.Decoder(weights, device)
    tokens = torch.zeros((1, PROMPT), dtype=torch.int64, device=device)
    time = seconds(lambda: decoder.prompt(tokens))
    operations = 2 * 4 * trits * PROMPT
    results["prompt"] = {
        "tokens": PROMPT,
        "seconds": time,
        "tokens_per_second": PROMPT / time,
        "of_int8_rate": operations / time / floor["int8_operations_per_second"],
    }
    return results


def run(folder: Path, peers: bool) -> Results:
    import torch
    import triton

    device = torch.device("cuda")
    start = perf_counter()
    compile_on_all_cores(folder)
    results: Results = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "triton": triton.__version__,
        "commit": (folder / "commit").read_text().strip(),
        "compile_seconds": perf_counter() - start,
        "floors": floors(device),
        "shipped": check_shipped(folder, device),
        "models": {},
    }
    for size in SIZES:
        results["models"][size] = measure(load(folder / f"{size}.py"), device, results["floors"])
        write(folder, results)  # what was measured is kept, whatever happens later
    if peers:
        from gpu_peers import peers_of

        for size in SIZES:
            results["models"][size]["peers"] = peers_of(size, TEXTS, PROMPT, seconds)
            write(folder, results)
    results["seconds"] = perf_counter() - start
    write(folder, results)
    return results


def write(folder: Path, results: Results) -> None:
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")


def table(results: Results) -> str:
    """The results as Markdown."""
    floor = results["floors"]
    lines = [
        f"{results['device']}, torch {results['torch']}, triton {results['triton']}, commit {results['commit'][:12]}",
        "",
        *(f"{name.replace('_', ' ')}: {value / 1e12:.2f} T" for name, value in floor.items()),
        "",
        "| model | texts | ms a step | tokens/s | of the floor | bf16 ms | times faster |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for size, model in results["models"].items():
        bf16 = model.get("peers", {}).get("bf16", {})
        for texts, decode in model["decode"].items():
            other = bf16.get("decode", {}).get(texts)
            faster = f"{other * 1e3:.2f} | {other / decode['seconds']:.1f}" if other else "- | -"
            lines.append(
                f"| {size} | {texts} | {decode['seconds'] * 1e3:.3f} | {decode['tokens_per_second']:.0f} "
                f"| {decode['of_floor']:.0%} | {faster} |"
            )
    lines += ["", "| model | prompt tokens/s | of the int8 rate | head of reading | weights | bf16 weights |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for size, model in results["models"].items():
        other = model.get("peers", {}).get("bf16", {}).get("weights_bytes")
        lines.append(
            f"| {size} | {model['prompt']['tokens_per_second']:.0f} | {model['prompt']['of_int8_rate']:.0%} "
            f"| {model['head']['of_reading']:.0%} | {model['weights_bytes'] / 1e6:.0f} MB "
            f"| {f'{other / 1e6:.0f} MB' if other else '-'} |"
        )
    checks = {
        **results["shipped"],
        **{k: v for m in results["models"].values() for k, v in m["products"].items()},
    }
    wrong = [name for name, right in checks.items() if not right]
    lines += ["", f"{len(checks) - len(wrong)} of {len(checks)} comparisons equal bit for bit"]
    return "\n".join([*lines, *(f"WRONG: {name}" for name in wrong)])


@click.command(help=__doc__, context_settings={"max_content_width": 110})
@click.option("--folder", type=click.Path(path_type=Path), default=Path("build/gpu"), show_default=True)
@click.option("--prepare-only", is_flag=True, help="Emit and compute what is expected; measure nothing.")
@click.option("--peers/--no-peers", default=True, show_default=True, help="Measure torch and others too.")
def main(folder: Path, prepare_only: bool, peers: bool) -> None:
    import torch

    if not prepare_only and not torch.cuda.is_available():
        print(
            "benchmarks/gpu.py: torch finds no GPU here, so nothing was measured (--prepare-only prepares for one)"
        )
        return
    if prepare_only or not (folder / "commit").exists():
        sys.path.insert(0, str(Path(__file__).parent.parent))
        prepare(folder)
    if not prepare_only:
        print(table(run(folder, peers)))


if __name__ == "__main__":
    main()
