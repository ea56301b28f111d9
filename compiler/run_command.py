"""`sterna run`: a language model's text, or a network's arrays."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sterna.size_option import CONTEXT_OPTION, SIZE_OPTION, source_options

if TYPE_CHECKING:
    from sterna.model import CompiledModel, Generation

HELP = """Continue a prompt with the model in MODEL, streaming the text to stdout, or run it on arrays.

MODEL is an artifact that `sterna compile` made, or a checkpoint: a directory with config.json and *.safetensors.
A checkpoint is compiled first; the result is kept in the cache ($XDG_CACHE_HOME/sterna) for the next time.
A model that is no language model takes arrays, each as --input NAME=FILE.npy or all in one .npz file, and gives arrays.
MODEL may also be a .onnx file, which is compiled each time.

\b
Examples:
  sterna run model.sterna --prompt "Once upon a time" -n 100
  sterna run model.sterna --greedy < prompt.txt
  sterna run model.sterna --prompt "ROMEO:" --prompt "JULIET:" -n 40
  sterna run CHECKPOINT --prompt "ROMEO:" --temperature 0.7 --top-k 40 --seed 1
  sterna run BITNET --context 8192 --greedy < long-prompt.txt
  sterna run network.sterna --input x=x.npy --output y.npz
"""


@click.command(name="run", help=HELP, short_help="Continue a prompt, or compute on arrays.")
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "-p",
    "--prompt",
    "prompts",
    multiple=True,
    help="What to continue; without it, stdin if that is a file or a pipe. Several are texts of their own.",
)
@click.option("-n", "--max-new-tokens", type=click.IntRange(0), default=200, show_default=True)
@click.option("--temperature", type=click.FloatRange(0), default=0.8, show_default=True, help="0 is greedy.")
@click.option("--top-k", type=click.IntRange(1), help="Choose among the K likeliest tokens.")
@click.option(
    "--top-p",
    type=click.FloatRange(0, 1, min_open=True),
    help="Choose among the likeliest with probability P.",
)
@click.option("--seed", type=click.IntRange(0), help="The same seed gives the same text.")
@click.option("--greedy", is_flag=True, help="Always the likeliest token.")
@click.option("--threads", type=click.IntRange(1), help="Default: one a core.")
@click.option(
    "--isa", help="Instruction set of the kernels (see `sterna targets`). Default: the best of this machine."
)
@click.option("--target", default="cpu", show_default=True, help="What to compile a checkpoint for.")
@click.option("--ignore-end", is_flag=True, help="Go on after the end-of-text token.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="[NAME=]FILE",
    help="An array (.npy), whose NAME may lack if there is one input, or several (.npz).",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where arrays go: .npz, or .npy for one.",
)
@CONTEXT_OPTION
@SIZE_OPTION
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors.")
def run_command(
    model: Path,
    prompts: tuple[str, ...],
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int | None,
    greedy: bool,
    threads: int | None,
    isa: str | None,
    target: str,
    ignore_end: bool,
    inputs: tuple[str, ...],
    output: Path | None,
    context: int | None,
    sizes: tuple[str, ...],
    quiet: bool,
) -> None:
    source = source_options(sizes, context)
    if inputs or output:
        if prompts:
            raise click.UsageError("--input is for models that take arrays, and --prompt for language models")
        _run_on_arrays(_load_model(model, target, threads, isa, quiet, source), inputs, output)
        return
    if greedy and (top_k or top_p or seed is not None):
        raise click.UsageError("--greedy leaves nothing to choose: drop --top-k, --top-p and --seed")
    compiled = _load_model(model, target, threads, isa, quiet, source)
    if not compiled.has_tokenizer:
        from sterna.arrays import described
        from sterna.targets.program import InputError

        raise InputError(f"{model} takes arrays, as --input NAME=FILE.npy: {described(compiled.inputs)}")
    options: dict[str, Any] = {
        "max_new_tokens": max_new_tokens,
        "temperature": 0.0 if greedy else temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
        "stop_at_end": not ignore_end,
    }
    if len(prompts) > 1:
        generations = compiled.generate_texts(prompts, **options)
        _write("\n\n".join(map(str, generations)) + "\n")
    else:
        text = prompts[0] if prompts else _read_prompt()
        _write(text)
        generations = [compiled.generate(text, stream=_write, **options)]
        _write("\n")
    if not quiet:
        for generation in generations:
            click.echo(_speed(generation, compiled), err=True)


def _run_on_arrays(model: CompiledModel, inputs: Sequence[str], output: Path | None) -> None:
    from sterna.arrays import read_arrays, shape_text, write_arrays

    results = model.run(read_arrays(inputs, [tensor.name for tensor in model.inputs]))
    if output is not None:
        write_arrays(output, results)
        return
    for name, array in results.items():
        _write(f"{name}: {array.dtype} {shape_text(array.shape)}\n{array}\n")


def _load_model(
    path: Path, target: str, threads: int | None, isa: str | None, quiet: bool, source: Mapping[str, Any]
) -> CompiledModel:
    """The model of an artifact, or of a source that is compiled now or, if it is a checkpoint, was before."""
    from sterna.artifact import ArtifactError, is_artifact
    from sterna.model import load

    if path.suffix == ".onnx" and path.is_file():
        from sterna import api
        from sterna.progress import reporting

        with reporting(quiet) as progress:
            return api.compile(path, target, threads=threads, isa=isa, progress=progress, **source)
    if "sizes" in source:
        raise click.UsageError(
            "--size is for .onnx files: an artifact's sizes were given when it was compiled"
        )
    if is_artifact(path) or not (path / "config.json").exists():
        if source:
            raise click.UsageError(
                "--context is for checkpoints: an artifact's was given when it was compiled"
            )
        return load(path, threads=threads, isa=isa)
    from sterna.cache import cached_artifact, drop_others

    cached = cached_artifact(path, target, source.get("context"))
    if cached.exists():
        try:
            return load(cached, threads=threads, isa=isa)
        except ArtifactError:
            pass  # damaged: compiled again below
    from sterna import api
    from sterna.progress import reporting

    with reporting(quiet) as progress:
        api.build(path, cached, target, progress=progress, **source)
    drop_others(cached)
    return load(cached, threads=threads, isa=isa, verify=False)


def _speed(generation: Generation, model: CompiledModel) -> str:
    return (
        f"[prompt: {len(generation.prompt_tokens)} tokens, {generation.prefill_tokens_per_second:.1f} tokens/s; "
        f"generated: {len(generation.tokens)} tokens, {generation.decode_tokens_per_second:.1f} tokens/s; "
        f"{model.isa}, {model.threads} threads]"
    )


def _read_prompt() -> str:
    return "" if sys.stdin.isatty() else sys.stdin.read()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
