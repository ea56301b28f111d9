"""One section of `gpu.py`, in a process of its own: `gpu_measure.py FOLDER SECTION` writes FOLDER/SECTION.json."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from gpu import Results, write

Timer = Callable[[Callable[[], object]], float]


class Record:
    """What a section has found so far: it is on disk as soon as it is said."""

    def __init__(self, path: Path) -> None:
        self.path, self.found = path, {}

    def put(self, value: Any, *names: str) -> None:
        inner: Results = self.found
        for name in names[:-1]:
            inner = inner.setdefault(name, {})
        inner[names[-1]] = value
        write(self.path, self.found)


def load(path: Path, note: str = "") -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"emitted_{path.stem.replace('.', '_')}{note}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def variant(folder: Path, size: str, kind: str) -> Any:
    """The file of a model with weights in base 3 (`b3`), whose table stays in the host's memory (`host`), in which no
    kernel begins before the one before it has ended (`apart`), or norms have launches of their own (`launched`)."""
    import triton.language as tl

    module: Any = load(folder / f"{size}-{'b3' if kind == 'b3' else 'i2'}.py", f"_{kind}")
    if kind == "host":
        module.TABLES_ON_HOST = True
    if kind == "apart":
        module.OVERLAP = tl.constexpr(False)
        module.EXACT.pop("launch_pdl", None)
    if kind == "launched":
        module.ROWS_INSIDE = False
    return module


def timer(plan: Results) -> Timer:
    import torch

    least = plan["least_seconds"]

    def elapsed(call: Callable[[], object], count: int) -> float:
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for _ in range(count):
            call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000 / count

    def seconds(call: Callable[[], object]) -> float:
        """Of one call, the median of several on the device; short ones run many times, one after the other."""
        call()
        torch.cuda.synchronize()
        count = max(1, min(200, int(0.002 / max(elapsed(call, 1), 1e-6)))) if least else 1
        times: list[float] = []
        while len(times) < (5 if least else 1) or (sum(times) * count < least and len(times) < 100):
            times.append(elapsed(call, count))
        return sorted(times)[len(times) // 2]

    return seconds


def random_weights(module: Any, device: Any) -> dict[str, Any]:
    """Numbers like a trained model's for every weight of an emitted file, made on the device."""
    import torch

    generator = torch.Generator(device).manual_seed(0)
    size = max(offset + length for offset, length, _ in module.WEIGHTS.values())
    packed = torch.empty(size, dtype=torch.uint8, device="cpu" if module.TABLES_ON_HOST else device)
    weights = module.load_weights(packed, device)
    for name, weight in weights.items():
        if weight.dtype == torch.uint8:
            fields = [
                torch.randint(0, 3, weight.shape, dtype=torch.uint8, device=device, generator=generator)
                for _ in range(4)
            ]
            weight.copy_(fields[0] | fields[1] << 2 | fields[2] << 4 | fields[3] << 6)
        elif name.endswith("scale"):
            weight.fill_(0.02)
        else:
            spread, centre = (0.02, 0.0) if weight.dtype == torch.float16 else (0.1, 1.0)
            weight.copy_(
                torch.randn(weight.shape, device=device, generator=generator).mul_(spread).add_(centre)
            )
    return weights


SHIPPED_TEXTS = (1, 2, 8)


# Compiling takes a core some seconds a kernel, so all cores do it, into Triton's cache on disk.


def compile_share(folder: Path, plan: Results, number: int, workers: int) -> None:
    """Compiles this worker's share of all configurations of all files: nothing is launched, no memory is taken."""
    import torch
    from triton.runtime.autotuner import Autotuner
    from triton.runtime.jit import JITFunction

    if plan["rehearsal"]:
        from gpu_rehearsal import pretend_driver

        pretend_driver()
    device = torch.device("meta")
    launch = JITFunction.run
    order: dict[tuple[str, ...], int] = {}

    def only_compile(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        alignment = "".join(str(each.data_ptr() % 16 == 0) for each in args if hasattr(each, "data_ptr"))
        key = (self.fn.__module__, self.fn.__name__, alignment, str(sorted(options.items(), key=str)))
        if order.setdefault(key, len(order)) % workers == number:
            launch(self, *args, grid=grid, warmup=True, **options)

    def every_configuration(self: Any, *args: Any, **options: Any) -> None:
        for config in self.configs[: plan["configurations"]]:
            self.fn.run(*args, **options, **config.all_kwargs())

    JITFunction.run = only_compile
    Autotuner.run = every_configuration
    several = plan["texts"]
    for size in plan["shapes"]:
        launch_all(load(folder / f"{size}-i2.py"), plan, device, several)
    for kind in ("b3", "apart", "launched"):
        launch_all(variant(folder, next(iter(plan["shapes"])), kind), plan, device, [1], prompt=False)
    for path in sorted(folder.glob("product-*.py")):
        launch_all(load(path), plan, device, several)
    for format in [] if plan["rehearsal"] else plan["shipped"]:
        launch_all(load(folder / f"shipped-{format}.py"), plan, device, SHIPPED_TEXTS)
    print(f"worker {number}: {len(order)} kernels in all", flush=True)


def launch_all(
    module: Any, plan: Results, device: Any, several: Sequence[int], *, prompt: bool = True
) -> None:
    """A call of every kind that is made later."""
    import torch

    size = max(offset + length for offset, length, _ in module.WEIGHTS.values())
    weights = module.load_weights(torch.empty(size, dtype=torch.uint8, device=device), device)
    if not hasattr(module, "Decoder"):
        for rows in PRODUCT_ROWS:
            columns = product_shape(module)[1]
            batch = module.Batch(1, rows, device)
            q, step = batch.empty((rows, columns), torch.int8), batch.empty((rows,), torch.float32)
            module.forward(batch, weights, q, step)
        return
    for texts, length in (*((n, 1) for n in several), *([(1, plan["prompt"])] if prompt else [])):
        batch = module.Batch(texts, length, device)
        tokens = torch.zeros(texts * length, dtype=torch.int64, device=device)
        states = [batch.empty((texts, *shape), dtype) for shape, dtype in module.STATES]
        logits, *_ = module.forward(batch, weights, tokens, *states)
        module.likeliest(logits[:texts], tokens[:texts])


def compile_on_all_cores(folder: Path, plan: Results, record: Record) -> None:
    workers = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=compile_share, args=(folder, plan, number, workers))
        for number in range(workers)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    codes = [process.exitcode for process in processes]
    record.put(codes, "compile_exit_codes")
    if any(codes):
        raise SystemExit(f"workers ended with {codes}")


def measure_floors(plan: Results, device: Any, record: Record) -> None:
    """What the device does at best: reading and copying memory, int8 and bf16 products of torch's library."""
    import torch

    seconds = timer(plan)
    data = torch.zeros(plan["read_bytes"], dtype=torch.uint8, device=device)
    other, words, n = torch.empty_like(data), data.view(torch.int64), plan["matrix"]

    def int8_product() -> Callable[[], object]:
        a, b = (torch.randint(-128, 128, (n, n), dtype=torch.int8, device=device) for _ in range(2))
        return lambda: torch._int_mm(a, b.t())

    def bf16_product() -> Callable[[], object]:
        x, y = (torch.randn(n, n, dtype=torch.bfloat16, device=device) for _ in range(2))
        return lambda: x @ y

    record.put(2 * data.nbytes / seconds(lambda: other.copy_(data)), "floors", "copy_bytes_per_second")
    record.put(data.nbytes / seconds(lambda: words.sum()), "floors", "read_bytes_per_second")
    record.put(2 * n**3 / seconds(int8_product()), "floors", "int8_operations_per_second")
    record.put(2 * n**3 / seconds(bf16_product()), "floors", "bf16_operations_per_second")


def same(found: Any, wanted: Any) -> bool:
    """Bit for bit, of float32."""
    import torch

    return bool((found.contiguous().view(torch.int32) == wanted.contiguous().view(torch.int32)).all())


def steps_of(module: Any, weights: Any, tokens: Any, device: Any, texts: int) -> tuple[Any, Any]:
    """The logits `[texts, T, V]` and the last states of tokens `[texts, T]`, one after the other, in a graph."""
    import torch

    decoder = module.Decoder(weights, device, texts)
    decoder.capture()
    rows: list[Any] = []
    for column in tokens.unbind(1):
        decoder.tokens.copy_(column)
        decoder.step()
        rows.append(decoder.logits.clone())
    return torch.stack(rows, 1), [state.clone() for state in decoder.states]


def at_once(module: Any, weights: Any, tokens: Any, device: Any) -> tuple[Any, Any]:

    texts, length = tokens.shape
    batch = module.Batch(texts, length, device)
    zeros = [batch.empty((texts, *shape), dtype).zero_() for shape, dtype in module.STATES]
    logits, *states = module.forward(batch, weights, tokens.reshape(-1).contiguous(), *zeros)
    return logits.unflatten(0, (texts, length)), states


def check_shipped(folder: Path, plan: Results, device: Any, record: Record) -> None:
    """The shipped model gives the interpreter's bits: at once, step by step in a graph, and for several texts."""
    for format in plan["shipped"]:
        check_shipped_in(format, folder, plan, device, record)


def check_shipped_in(format: str, folder: Path, plan: Results, device: Any, record: Record) -> None:
    import numpy as np
    import torch

    module: Any = load(folder / f"shipped-{format}.py")
    packed = torch.from_numpy(np.fromfile(folder / f"shipped-{format}.bin", np.uint8)).to(device)
    expected = {
        name: torch.from_numpy(each).to(device) for name, each in np.load(folder / "expected.npz").items()
    }
    weights = module.load_weights(packed, device)
    wanted = [expected[f"state_{n}"].reshape(1, -1) for n in range(len(module.STATES))]
    for texts in (2,) if plan["rehearsal"] else SHIPPED_TEXTS:
        tokens = expected["tokens"].expand(texts, -1)
        for way, run in (
            ("at once", lambda tokens=tokens: at_once(module, weights, tokens, device)),
            ("step by step", lambda tokens=tokens: steps_of(module, weights, tokens, device, len(tokens))),
        ):
            logits, states = run()
            record.put(
                all(same(text, expected["logits"]) for text in logits), f"{format}, {way}, {texts} texts"
            )
            equal = all(
                same(row[None], one) for state, one in zip(states, wanted, strict=True) for row in state
            )
            record.put(equal, f"{format}, {way}, {texts} texts: states")


def check_ways(module: Any, weights: Any, shape: Results, device: Any, record: Record) -> None:
    """At a published shape: few rows and many are different kernels, and so are a text alone and among others."""
    import torch

    tokens = torch.randint(0, shape["vocabulary"], (5, 2), device=device)
    logits, states = steps_of(module, weights, tokens, device, 5)
    for text in (0, 4):
        alone, last = steps_of(module, weights, tokens[text : text + 1], device, 1)
        record.put(same(alone[0], logits[text]), "checks", f"text {text} alone and among 5")
        equal = all(same(a[0], b[text]) for a, b in zip(last, states, strict=True))
        record.put(equal, "checks", f"text {text} alone and among 5: states")
    prompt, last = at_once(module, weights, tokens, device)
    record.put(same(prompt, logits), "checks", "a prompt of 5 texts at once and step by step")
    equal = all(same(a, b) for a, b in zip(last, states, strict=True))
    record.put(equal, "checks", "a prompt of 5 texts at once and step by step: states")


PRODUCT_ROWS = (1, 3, 4, 5, 64, 200)


def product_shape(module: Any) -> tuple[int, int]:
    """Rows and columns of the weight of a file that holds one product."""
    m, k = module.__name__.rsplit("-", 1)[-1].split("x")
    return int(m), int(k)


def check_products(folder: Path, size: str, device: Any, record: Record) -> None:
    """Products of the published shapes with random rows are exact, for few rows and for many."""
    import torch

    for path in sorted(folder.glob(f"product-{size}-*.py")):
        module: Any = load(path)
        weights, (m, k) = random_weights(module, device), product_shape(module)
        format = path.stem.split("-")[-2]
        trits = trits_in(weights["w"], m, k, format)
        weights["scale"].fill_(1.0)
        for rows in PRODUCT_ROWS:
            batch = module.Batch(1, rows, device)
            q = batch.empty((rows, k), torch.int8)
            whole = q.as_strided((rows, q.stride(0)), (q.stride(0), 1)).zero_()
            whole[:, :k] = torch.randint(-128, 128, (rows, k), device=device)
            out = module.forward(batch, weights, q, torch.ones(rows, device=device))
            exact = q.double() @ trits.double().t()
            right = bool((out.double() == exact).all())
            record.put(right, "checks", f"product {m} x {k}, {format}, {rows} rows")


def trits_in(packed: Any, m: int, k: int, format: str) -> Any:
    """What packed bytes say: `[M, K]` of -1, 0 and 1, by the definition of the encodings (docs/ir.md)."""
    import torch

    columns, bytes, digits = (256, 64, 4) if format == "i2" else (80, 16, 5)
    across = -(-k // columns)
    left = packed.view(-1, across, 4, bytes).transpose(1, 2).reshape(-1, across, bytes)[:m].int()
    found: list[Any] = []
    for digit in range(digits):
        if format == "i2":
            found.append((left >> 2 * digit) & 3)
        else:
            found.append(3 * left >> 8)
            left = 3 * left & 0xFF
    return torch.stack(found, 2).reshape(m, across * columns)[:, :k] - 1


def head_at_one_row(folder: Path, size: str, plan: Results, device: Any, floor: float | None) -> Results:
    """How near the product of the head, one row, is to the bandwidth of copying memory."""
    import torch

    shape = plan["shapes"][size]
    module: Any = load(folder / f"product-{size}-i2-{shape['vocabulary']}x{shape['hidden']}.py")
    weights, (m, k) = random_weights(module, device), product_shape(module)
    # Copies, so that each call reads weights that are in no cache.
    count = 2 if plan["rehearsal"] else max(2, (1 << 28) // weights["w"].numel())
    copies = [{**weights, "w": weights["w"].clone()} for _ in range(count)]
    batch = module.Batch(1, 1, device)
    q, one = batch.empty((1, k), torch.int8).fill_(1), torch.ones(1, device=device)
    module.forward(batch, weights, q, one)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for copy in copies:
            module.forward(batch, copy, q, one)
    rate = weights["w"].numel() * len(copies) / timer(plan)(graph.replay)
    product = next(each for each in vars(module).values() if isinstance(each, module.Product))
    return {
        "shape": [m, k],
        "bytes_per_second": rate,
        "of_copying": rate / floor if floor else None,
        "configuration": str(getattr(product.few, "best_config", None)),
    }


def floors_in(folder: Path) -> Results:
    path = folder / "floors.json"
    return json.loads(path.read_text()).get("floors", {}) if path.exists() else {}


def decoder_of(module: Any, weights: Any, device: Any, texts: int = 1) -> Any:
    """With its step in a graph. The peak of memory is counted from before that, and after kernels are tuned."""
    import torch

    decoder = module.Decoder(weights, device, texts)
    decoder.launch()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    decoder.capture()
    return decoder


def measure_variant(folder: Path, name: str, plan: Results, device: Any, record: Record) -> None:
    """A step of one text."""
    import torch

    size, _, kind = name.rpartition("-")
    module, copying = variant(folder, size, kind), floors_in(folder).get("copy_bytes_per_second")
    weights = random_weights(module, device)
    on_device = [weight for weight in weights.values() if weight.device.type == device.type]
    trits = sum(weight.numel() for weight in weights.values() if weight.dtype == torch.uint8)
    record.put(sum(weight.numel() * weight.element_size() for weight in on_device), "weights_bytes")
    decoder = decoder_of(module, weights, device)
    time = timer(plan)(decoder.step)
    record.put(time, "seconds")
    record.put(trits / copying / time if copying else None, "of_floor")
    record.put(torch.cuda.max_memory_allocated(), "peak_bytes")
    if kind != "b3":  # those bytes are other trits
        tokens = torch.randint(0, plan["shapes"][size]["vocabulary"], (1, 2), device=device)
        plain: Any = load(folder / f"{size}-i2.py")
        wanted, _ = steps_of(plain, random_weights(plain, device), tokens, device, 1)
        found, _ = steps_of(module, weights, tokens, device, 1)
        record.put(same(found, wanted), "checks", "the same logits")


def measure_model(folder: Path, size: str, plan: Results, device: Any, record: Record) -> None:
    import torch

    seconds, shape, floor = timer(plan), plan["shapes"][size], floors_in(folder)
    copying, int8 = floor.get("copy_bytes_per_second"), floor.get("int8_operations_per_second")
    module: Any = load(folder / f"{size}-i2.py")
    weights = random_weights(module, device)
    trits = sum(weight.numel() for weight in weights.values() if weight.dtype == torch.uint8)
    record.put(trits, "packed_bytes")
    record.put(sum(weight.numel() * weight.element_size() for weight in weights.values()), "weights_bytes")
    record.put(trits / copying if copying else None, "floor_seconds")
    check_ways(module, weights, shape, device, record)
    for texts in plan["texts"]:
        decoder = decoder_of(module, weights, device, texts)
        time = seconds(decoder.step)
        found = {
            "seconds": time,
            "tokens_per_second": texts / time,
            "of_floor": trits / copying / time if copying else None,
            "peak_bytes": torch.cuda.max_memory_allocated(),
        }
        record.put(found, "decode", str(texts))
        del decoder
    decoder = module.Decoder(weights, device)
    tokens = torch.zeros((1, plan["prompt"]), dtype=torch.int64, device=device)
    time = seconds(lambda: decoder.prompt(tokens))
    found = {
        "tokens": plan["prompt"],
        "seconds": time,
        "tokens_per_second": plan["prompt"] / time,
        "of_int8_rate": 2 * 4 * trits * plan["prompt"] / time / int8 if int8 else None,
    }
    record.put(found, "prompt")
    record.put(head_at_one_row(folder, size, plan, device, copying), "head")
    check_products(folder, size, device, record)


def main(folder: Path, section: str) -> None:
    plan: Results = json.loads((folder / "plan.json").read_text())
    record = Record(folder / f"{section}.json")
    if section == "compile":
        compile_on_all_cores(folder, plan, record)
        return
    if plan["rehearsal"]:
        from gpu_rehearsal import stand_in

        stand_in()
    import torch
    import triton

    device = torch.device("cpu" if plan["rehearsal"] else "cuda")
    kind, _, size = section.partition("-")
    match kind:
        case "shipped":
            check_shipped(folder, plan, device, record)
        case "floors":
            record.put(torch.cuda.get_device_name(), "device")
            record.put(torch.__version__, "torch")
            record.put(triton.__version__, "triton")
            measure_floors(plan, device, record)
        case "model":
            measure_model(folder, size, plan, device, record)
        case "attention":
            from gpu_attention import measure

            measure(folder, plan, load(folder / "attention.py"), device, timer(plan), record.put)
        case "variant":
            measure_variant(folder, size, plan, device, record)
        case "peers":
            from gpu_peers import measure_peers

            measure_peers(plan["shapes"][size], plan, device, timer(plan), record.put)
        case _:
            raise SystemExit(f"no section '{section}'")


if __name__ == "__main__" and len(sys.argv) == 3:
    main(Path(sys.argv[1]), sys.argv[2])
