"""Everything about the GPU target that needs a GPU, in one run of under ten minutes: right first, then how fast.

    python benchmarks/gpu.py                      # both steps, where Sterna and a GPU are
    python benchmarks/gpu.py --prepare-only       # anywhere: emits kernels and computes what is expected, in build/gpu
    python benchmarks/gpu.py --folder build/gpu   # on a machine with a GPU: needs torch and triton, not Sterna
    python benchmarks/gpu.py --rehearse           # without a GPU: every line of it on a tiny model, no measurement

It compares the shipped model with Sterna's interpreter bit for bit, token by token and at once, the attention of a
published transformer's layer too, and products of the published shapes with exact sums. Then, for that layer, a step at
the end of its context and a prompt that fills it; and for those shapes with random weights: tokens a second of decoding
for 1 to 256 texts, of a prompt of 4096 tokens, bytes of memory; and of the largest a step with weights in base 3, with
its embedding table in the host's memory, with kernels that do not overlap, and with launches for norms that products
compute themselves. Beside each stands its floor on this device, measured in the same run: packed weights at the
bandwidth of copying memory, int8 products at the rate of the vendor's library; and what torch does with the same shapes
in bf16. Results go to FOLDER/results.json, and a table to stdout.

Every section is a process of its own, with a time limit, and writes what it has as it has it: a kernel that faults or
hangs, or a peer that does, costs its own section alone.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import click

PUBLISHED_SIZES = ("2.7B", "1.3B", "370M")
"""In the order of what is wanted most."""
PLAN = {
    "texts": [1, 4, 16, 64, 256],
    "prompt": 4096,
    "least_seconds": 0.2,
    "read_bytes": 1 << 30,
    "matrix": 8192,
    "configurations": None,
    "shipped": ["i2", "b3"],
    "attention": {"heads": 20, "kv_heads": 5, "columns": 128, "context": 4096},
    "rehearsal": False,
}
REHEARSAL = {
    "texts": [1, 5],
    "prompt": 6,
    "least_seconds": 0.0,
    "read_bytes": 1 << 16,
    "matrix": 64,
    "configurations": 1,
    "shipped": ["b3"],
    "attention": {"heads": 2, "kv_heads": 1, "columns": 20, "context": 140},
    "rehearsal": True,
}
"""The same with sizes that Triton's interpreter runs in a minute; no number of it is a measurement."""
MODEL = Path("examples/checkpoints/matmulfree-shakespeare")
TOKENS = 48
"""Of the comparison with the interpreter; of a rehearsal 2."""
PRODUCT = """
ternary.weight @w : {w}
ternary.weight @scale : tensor<f32>
func.func @forward(%q : tensor<?x{k}xi8>, %step : tensor<?xf32>) -> tensor<?x{m}xf32> {{
  %w = ternary.load @w : {w}
  %scale = ternary.load @scale : tensor<f32>
  %y = ternary.project quantized(%q : tensor<?x{k}xi8>) steps(%step : tensor<?xf32>)
    weights(%w : {w})
    scales(%scale : tensor<f32>) reads = [0] {{
  ^bb0(%sum : f32):
    ternary.yield %sum : f32
  }} -> tensor<?x{m}xf32>
  func.return %y : tensor<?x{m}xf32>
}}"""
"""One product, whose parts are known: to compare with exact sums, and to time alone."""
VARIANTS = ("b3", "host", "apart", "launched")
"""Of the first size: see `gpu_measure.variant`."""
SECTION_SECONDS = {
    "compile": 240.0,
    "shipped": 90.0,
    "floors": 60.0,
    "attention": 60.0,
    "model": 120.0,
    "variant": 60.0,
    "peers": 120.0,
}
"""At most; what a run has left may be less."""
LEAST_SECONDS = 15.0
"""With less than that left no section begins."""

Results = dict[str, Any]


def prepare(folder: Path, plan: Results) -> None:
    """What needs the compiler: the shipped model with what the interpreter makes of it, and the published shapes."""
    sys.path.insert(0, str(Path(__file__).parent.parent))
    import gpu_attention
    import numpy as np

    from examples.random_checkpoint import PUBLISHED
    from sterna.api import load_source
    from sterna.dialects.context import make_context, parse
    from sterna.dialects.encodings import EncodingAttr
    from sterna.dialects.interpreter import ModuleInterpreter
    from sterna.dialects.weights import RandomStore
    from sterna.frontends.checkpoint import import_hgrn_bit
    from sterna.frontends.models.hgrn_bit_config import HGRNBitConfig
    from sterna.in_memory import pack_weights
    from sterna.lowering import lower, parse_passes
    from sterna.pass_runner import run_passes
    from sterna.plugins import configured_target

    class Shapes(RandomStore):
        """Published checkpoints are in half precision; no pass reads their numbers."""

        def dtype(self, name: str) -> str:
            return "F16"

    targets = {format: configured_target("triton", {"encoding": format}) for format in EncodingAttr.FORMATS}
    folder.mkdir(parents=True, exist_ok=True)
    tiny = HGRNBitConfig(vocab_size=300, hidden_size=64, num_hidden_layers=1)
    configs = {"tiny": tiny} if plan["rehearsal"] else {size: PUBLISHED[size] for size in PUBLISHED_SIZES}
    tokens = np.random.default_rng(0).integers(0, 1024, 2 if plan["rehearsal"] else TOKENS)
    states = [np.zeros(256, np.float32)] * 4
    for format in plan["shipped"]:
        imported = load_source(Path(__file__).parent.parent / MODEL, None)
        lower(imported.module, imported.weights, targets[format])
        (folder / f"shipped-{format}.py").write_text(targets[format].emit(imported.module, "triton"))
        pack_weights(imported.module, imported.weights).tofile(folder / f"shipped-{format}.bin")
        if format == plan["shipped"][0]:
            results = ModuleInterpreter(imported.module, imported.weights).run([tokens, *states])
            names = ("logits", *(f"state_{n}" for n in range(len(states))))
            np.savez(folder / "expected.npz", tokens=tokens, **dict(zip(names, results, strict=True)))
    for size, config in configs.items():
        for format, target in targets.items():
            if format != "i2" and size != next(iter(configs)):
                continue
            module = import_hgrn_bit(config)
            lower(module, Shapes(config.tensor_shapes()), target)
            (folder / f"{size}-{format}.py").write_text(target.emit(module, "triton"))
            for m, k in ((config.vocab_size, config.hidden_size), (config.hidden_size, config.mlp_size)):
                weight = f"tensor<{m}x{k}x!ternary.trit, {EncodingAttr.of(format)}>"
                product = parse(PRODUCT.format(m=m, k=k, w=weight))
                plan_memory = parse_passes(target, "plan-memory{max-rows=64}")
                run_passes(make_context(RandomStore({})), product, plan_memory)
                path = folder / f"product-{size}-{format}-{m}x{k}.py"
                path.write_text(target.emit(product, "triton"))
    shapes = {
        size: {
            "layers": config.num_hidden_layers,
            "hidden": config.hidden_size,
            "mlp": config.mlp_size,
            "vocabulary": config.vocab_size,
        }
        for size, config in configs.items()
    }
    gpu_attention.prepare(folder, targets["i2"], plan["attention"])
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout
    write(folder / "plan.json", {**plan, "commit": commit.strip(), "shapes": shapes})


def write(path: Path, results: Results) -> None:
    """Whole or not at all: whoever reads while this is stopped finds what was there before."""
    temporary = path.with_suffix(".partial")
    temporary.write_text(json.dumps(results, indent=1) + "\n")
    temporary.replace(path)


def sections(plan: Results, peers: bool) -> list[str]:
    """What is right comes first, what others do last."""
    sizes = list(plan["shapes"])
    found = ["compile", "shipped", "floors", "attention", *(f"model-{size}" for size in sizes)]
    found += [f"variant-{sizes[0]}-{kind}" for kind in VARIANTS]
    return found + ([f"peers-{size}" for size in sizes] if peers else [])


def run(folder: Path, *, peers: bool, limit: float) -> Results:
    plan: Results = json.loads((folder / "plan.json").read_text())
    start = perf_counter()
    results: Results = {
        "rehearsal": plan["rehearsal"],
        "commit": plan["commit"],
        "sections": {},
        "shipped": {},
        "floors": {},
        "attention": {},
        "models": {size: {"shape": shape} for size, shape in plan["shapes"].items()},
    }
    for name in sections(plan, peers):
        path = folder / f"{name}.json"
        path.unlink(missing_ok=True)
        began = perf_counter()
        left = limit - (began - start)
        # An interpreter on a busy machine takes its time.
        usual = float("inf") if plan["rehearsal"] else SECTION_SECONDS[name.partition("-")[0]]
        most = min(left - 5, usual)
        state = run_section(folder, name, most) if left > LEAST_SECONDS else "skipped: no time left"
        found: Results = json.loads(path.read_text()) if path.exists() else {}
        kind, _, size = name.partition("-")
        if kind == "model":
            results["models"][size] |= found
        elif kind == "variant":
            size, _, variant = size.rpartition("-")
            results["models"][size].setdefault("variants", {})[variant] = found
        elif kind == "peers":
            results["models"][size]["peers"] = found
        elif kind in ("shipped", "attention"):
            results[kind] = found
        else:
            results |= found
        results["sections"][name] = {"state": state, "seconds": round(perf_counter() - began, 1)}
        results["seconds"] = round(perf_counter() - start, 1)
        write(folder / "results.json", results)
        print(f"{name}: {state}, {perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return results


def run_section(folder: Path, name: str, limit: float) -> str:
    """How it ended: "ok", or what went wrong."""
    command = [sys.executable, str(Path(__file__).with_name("gpu_measure.py")), str(folder), name]
    with (folder / f"{name}.log").open("w") as log:
        # A session of its own: what it started ends with it.
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"stopped after {limit:.0f} s"
    if code == 0:
        return "ok"
    last = (folder / f"{name}.log").read_text(errors="replace").strip().splitlines()[-1:]
    return f"exit code {code}: {''.join(last)[:300]}"


def table(results: Results) -> str:
    """The results as Markdown: what is missing was not measured, and the sections at the end say why."""
    lines = [
        *(["REHEARSAL on a CPU: no number here is a measurement.", ""] if results["rehearsal"] else []),
        f"{results.get('device', 'unknown device')}, torch {results.get('torch', '?')}, "
        f"triton {results.get('triton', '?')}, commit {results['commit'][:12]}",
        "",
        *(f"{name.replace('_', ' ')}: {value / 1e12:.3g} T" for name, value in results["floors"].items()),
        "",
        "| model | texts | ms a step | tokens/s | of the floor | bf16 ms | times faster | peak memory |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for size, model in results["models"].items():
        bf16 = model.get("peers", {}).get("bf16", {})
        for texts, decode in model.get("decode", {}).items():
            other = bf16.get("decode", {}).get(texts)
            faster = f"{other * 1e3:.2f} | {other / decode['seconds']:.1f}" if other else "- | -"
            lines.append(
                f"| {size} | {texts} | {decode['seconds'] * 1e3:.3f} | {decode['tokens_per_second']:.0f} "
                f"| {share(decode.get('of_floor'))} | {faster} | {decode['peak_bytes'] / 1e6:.0f} MB |"
            )
    lines += [
        "",
        "| one text | ms a step | of the floor | weights on the device |",
        "| --- | --- | --- | --- |",
    ]
    for size, model in results["models"].items():
        for kind, found in model.get("variants", {}).items():
            if "seconds" in found:
                lines.append(
                    f"| {size}, {kind} | {found['seconds'] * 1e3:.3f} | {share(found['of_floor'])} "
                    f"| {found['weights_bytes'] / 1e6:.0f} MB |"
                )
    lines += ["", "| model | prompt tokens/s | of the int8 rate | head of copying | weights | bf16 weights |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for size, model in results["models"].items():
        prompt, head = model.get("prompt", {}), model.get("head", {})
        other = model.get("peers", {}).get("bf16", {}).get("weights_bytes")
        rate = f"{prompt['tokens_per_second']:.0f}" if prompt else "-"
        lines.append(
            f"| {size} | {rate} | {share(prompt.get('of_int8_rate'))} | {share(head.get('of_copying'))} "
            f"| {model.get('weights_bytes', 0) / 1e6:.0f} MB | {f'{other / 1e6:.0f} MB' if other else '-'} |"
        )
    for size, model in results["models"].items():
        for name, value in model.get("peers", {}).items():
            if name != "bf16":
                lines.append(f"{size}, {name}: {value if isinstance(value, str) else json.dumps(value)}")
    attention = results["attention"]
    if "step" in attention and "prompt" in attention:
        step, prompt = attention["step"], attention["prompt"]
        lines.append(
            f"attention, a layer: {step['seconds'] * 1e3:.4f} ms a step at the end of its context, "
            f"{share(step['of_reading'])} of reading it; {prompt['seconds'] * 1e3:.3f} ms for {prompt['tokens']} tokens"
        )
    checks = dict(results["shipped"])
    checks |= {f"attention: {name}": right for name, right in attention.get("checks", {}).items()}
    for size, model in results["models"].items():
        checks |= {f"{size}: {name}": right for name, right in model.get("checks", {}).items()}
        for kind, found in model.get("variants", {}).items():
            checks |= {f"{size}, {kind}: {name}": right for name, right in found.get("checks", {}).items()}
    wrong = [name for name, right in checks.items() if right is not True]
    lines += ["", f"{len(checks) - len(wrong)} of {len(checks)} comparisons equal bit for bit"]
    lines += [f"WRONG: {name}" for name in wrong]
    states = results["sections"].items()
    lines += [f"NOT WHOLE: {name}: {each['state']}" for name, each in states if each["state"] != "ok"]
    return "\n".join(lines)


def share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


@click.command(help=__doc__, context_settings={"max_content_width": 110})
@click.option("--folder", type=click.Path(path_type=Path), default=Path("build/gpu"), show_default=True)
@click.option("--prepare-only", is_flag=True, help="Emit and compute what is expected; measure nothing.")
@click.option("--peers/--no-peers", default=True, show_default=True, help="Measure torch and others too.")
@click.option("--limit", default=560.0, show_default=True, help="Seconds after which no section goes on.")
@click.option(
    "--rehearse", is_flag=True, help="Run all of it without a GPU, on a tiny model: no measurement."
)
def main(folder: Path, prepare_only: bool, peers: bool, limit: float, rehearse: bool) -> None:
    import torch

    if rehearse:
        limit = max(limit, 3600.0)
    if rehearse and folder == Path("build/gpu"):
        folder = Path("build/gpu-rehearsal")
    if not (prepare_only or rehearse or torch.cuda.is_available()):
        print(
            "benchmarks/gpu.py: torch finds no GPU here, so nothing was measured "
            "(--prepare-only prepares for one, --rehearse runs all of it without one)"
        )
        return
    if prepare_only or rehearse or not (folder / "plan.json").exists():
        prepare(folder, dict(REHEARSAL if rehearse else PLAN))
    if not prepare_only:
        os.environ.setdefault("TRITON_CACHE_DIR", str((folder / "cache").resolve()))
        print(table(run(folder, peers=peers, limit=limit)))


if __name__ == "__main__":
    main()
