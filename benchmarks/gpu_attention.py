"""The section of `gpu.py` on a layer's attention: right first, then a step and a prompt of the published sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gpu import Results

TEXT = """
func.func @forward(%tokens : tensor<?xi64>, %q : {wide}, %k : {narrow}, %v : {narrow},
                   %cos : {angle}, %sin : {angle}, %start : tensor<i64>, %keys : {cache}, %values : {cache})
    -> ({wide}, tensor<i64>, {cache}, {cache}) attributes {{sterna.states = 3 : i64}} {{
  %p, %next = ternary.positions %start of %tokens capacity = {context}
    : tensor<i64>, tensor<?xi64> -> tensor<?xi64>, tensor<i64>
  %q_turned = ternary.rotate %q by %cos, %sin : {wide}, {angle}
  %k_turned = ternary.rotate %k by %cos, %sin : {narrow}, {angle}
  %y, %new_keys, %new_values = ternary.attention %q_turned, %k_turned, %v at %p cache %keys, %values
    heads = {heads} kv_heads = {kv_heads} scale = {scale} block = 128 lanes = 16
    : {wide}, {narrow}, tensor<?xi64>, {cache}
  func.return %y, %next, %new_keys, %new_values : {wide}, tensor<i64>, {cache}, {cache}
}}"""
CACHES = 1 << 28
"""Bytes that steps go through in turn: more than any cache of the device, so that each comes from its memory."""


def calls(sizes: Results) -> list[tuple[int, int]]:
    """Rows and where they begin: steps, a few rows, and more than go the way of a few."""
    context = sizes["context"]
    return [(1, context - 1), (1, context // 2), (3, context - 3), (66, context // 3)]


def inputs(sizes: Results, rows: int, start: int) -> list[Any]:
    """The same here as where what they give was computed."""
    generator = np.random.default_rng(start)
    wide, narrow = (sizes[heads] * sizes["columns"] for heads in ("heads", "kv_heads"))
    shapes = [(rows, wide), *[(rows, narrow)] * 2, *[(sizes["context"], narrow)] * 2]
    q, k, v, keys, values = (generator.standard_normal(shape, np.float32) for shape in shapes)
    angles = np.outer(np.arange(start, start + rows), 1e4 ** -np.linspace(0, 1, sizes["columns"] // 2))
    turned = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    return [np.zeros(rows, np.int64), q, k, v, *turned, np.array(start), keys, values]


def prepare(folder: Path, target: Any, sizes: Results) -> None:
    from sterna.dialects.context import make_context, parse
    from sterna.dialects.interpreter import ModuleInterpreter
    from sterna.dialects.weights import RandomStore
    from sterna.lowering import parse_passes
    from sterna.pass_runner import run_passes

    wide, narrow = (sizes[heads] * sizes["columns"] for heads in ("heads", "kv_heads"))
    types = {"wide": f"tensor<?x{wide}xf32>", "narrow": f"tensor<?x{narrow}xf32>"}
    types["angle"] = f"tensor<?x{sizes['columns'] // 2}xf32>"
    types["cache"] = f"tensor<{sizes['context']}x{narrow}xf32>"
    module = parse(TEXT.format(**types, **sizes, scale=sizes["columns"] ** -0.5))
    run_passes(make_context(RandomStore({})), module, parse_passes(target, "plan-memory{max-rows=64}"))
    (folder / "attention.py").write_text(target.emit(module, "triton"))
    expected = {
        f"{rows} at {start}": ModuleInterpreter(module).run(inputs(sizes, rows, start))[0]
        for rows, start in calls(sizes)
    }
    np.savez(folder / "attention.npz", **expected)


def measure(
    folder: Path,
    plan: Results,
    module: Any,
    device: Any,
    seconds: Callable[[Callable[[], object]], float],
    put: Callable[..., None],
) -> None:
    """Of one layer: a step at the end of the context, beside the floor of reading it, and a prompt that fills it."""
    import torch
    from gpu_measure import floors_in, same

    sizes = plan["attention"]

    def on_device(rows: int, start: int) -> list[Any]:
        batch = module.Batch(1, rows, device)
        return [batch.place(torch.from_numpy(each).to(device)) for each in inputs(sizes, rows, start)]

    expected = np.load(folder / "attention.npz")
    for rows, start in calls(sizes):
        found, *_ = module.forward(module.Batch(1, rows, device), {}, *on_device(rows, start))
        wanted = torch.from_numpy(expected[f"{rows} at {start}"]).to(device)
        put(same(found, wanted), "checks", f"{rows} rows at {start} of {sizes['context']}")

    context = sizes["context"]
    *given, start, keys, values = on_device(1, context - 1)
    size = 2 * keys.numel() * keys.element_size()
    count = 2 if plan["rehearsal"] else -(-CACHES // size)
    caches = [(keys.clone(), values.clone()) for _ in range(count)]
    batch = module.Batch(1, 1, device, in_place=True)

    def steps() -> None:
        for cache in caches:
            start.fill_(context - 1)
            module.forward(batch, {}, *given, start, *cache)

    steps()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        steps()
    time = seconds(graph.replay) / count
    reading = floors_in(folder).get("read_bytes_per_second")
    put({"seconds": time, "of_reading": size / time / reading if reading else None}, "step")
    rows = plan["prompt"]
    *given, start, keys, values = on_device(rows, 0)
    batch = module.Batch(1, rows, device, in_place=True)

    def prompt() -> None:
        start.zero_()
        module.forward(batch, {}, *given, start, keys, values)

    put({"tokens": rows, "seconds": seconds(prompt)}, "prompt")
