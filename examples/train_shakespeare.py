"""Train a small MatMul-free LM on Shakespeare's plays, and write it as a checkpoint that Sterna compiles.

    python examples/train_shakespeare.py train --linear ternary
    python examples/train_shakespeare.py train --linear float
    python examples/train_shakespeare.py export

`train` can be stopped and run again: it resumes from its run directory, and a run that was interrupted takes
the same steps as one that was not. `export` writes the checkpoint directory and its model card from both runs.
"""

import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from tqdm import tqdm

from sterna.frontends.models.hgrn_bit import BitLinear, HGRNBitForCausalLM, NormLinear
from sterna.frontends.models.hgrn_bit_config import HGRNBitConfig

HERE = Path(__file__).parent
TEXT = HERE / "data" / "tinyshakespeare.txt"
RUNS = HERE.parent / "runs" / "shakespeare"
CHECKPOINT = HERE / "checkpoints" / "matmulfree-shakespeare"
VOCABULARY = 1024
BOS, EOS = 0, 1
LINEARS: dict[str, type[NormLinear]] = {"ternary": BitLinear, "float": NormLinear}
# Ternary weights move only when a latent weight crosses a threshold, and so take a higher rate.
PEAK_RATES = {"ternary": 4e-3, "float": 1.5e-3}


@dataclass(frozen=True)
class Text:
    """The plays, the first nine tenths to train on and the last tenth to validate on."""

    train: str
    validation: str

    @classmethod
    def read(cls) -> "Text":
        text = TEXT.read_text(encoding="utf-8")
        return cls(text[: len(text) * 9 // 10], text[len(text) * 9 // 10 :])


def train_tokenizer(text: str) -> Tokenizer:
    """Byte-level byte-pair encoding, so that any text at all can be encoded."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|bos|>", "<|eos|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    return tokenizer


def tokenizer_for(runs: Path, text: Text) -> Tokenizer:
    path = runs / "tokenizer.json"
    if not path.exists():
        runs.mkdir(parents=True, exist_ok=True)
        train_tokenizer(text.train).save(str(path))
    return Tokenizer.from_file(str(path))


def encode(tokenizer: Tokenizer, text: str) -> Tensor:
    return torch.tensor(tokenizer.encode(text, add_special_tokens=False).ids)


def add_dropout(model: HGRNBitForCausalLM, rate: float) -> None:
    """Drops elements of what each mixer adds to the residual stream, in training only."""
    for name, module in model.named_modules():
        if name.endswith(("o_proj", "down_proj")):
            module.register_forward_hook(
                lambda module, _, output: F.dropout(output, rate, training=module.training)
            )


def build_optimizer(model: nn.Module) -> torch.optim.AdamW:
    """Weight decay on matrices only: `param_groups[0]`."""
    matrices = [p for name, p in model.named_parameters() if p.ndim > 1 and "lower_bounds" not in name]
    rest = [p for name, p in model.named_parameters() if p.ndim == 1 or "lower_bounds" in name]
    return torch.optim.AdamW([{"params": matrices}, {"params": rest, "weight_decay": 0.0}], betas=(0.9, 0.95))


def learning_rate(progress: float, peak: float) -> float:
    """Linear warm-up over the first 3 percent, then a half cosine down to 2 percent of the peak."""
    if progress < 0.03:
        return peak * progress / 0.03
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (progress - 0.03) / 0.97)))


class Streams:
    """Parallel streams through the text as through a ring, each step the next window of each.

    The recurrent state is carried from window to window, and starts anew from zero, after a `<|bos|>`,
    every 16 windows, the streams taking turns. What a step reads depends on its number alone.
    """

    def __init__(self, tokens: Tensor, streams: int, window: int) -> None:
        self.tokens, self.window = tokens, window
        self.starts = torch.arange(streams) * (len(tokens) // streams)

    def batch(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs [B, T], targets [B, T], and which streams start anew [B]."""
        first = self.starts + step * self.window
        positions = (first[:, None] + torch.arange(-1, self.window)) % len(self.tokens)
        windows = self.tokens[positions]
        inputs, targets = windows[:, :-1].clone(), windows[:, 1:]
        fresh = (step + 2 * torch.arange(len(self.starts))) % 16 == 0
        if step == 0:
            fresh[:] = True
        inputs[fresh, 0] = BOS
        return inputs, targets, fresh


@torch.no_grad()
def bits_per_byte(model: HGRNBitForCausalLM, tokens: Tensor, size: int, streams: int) -> float:
    """The text read in order with the state carried along, in `streams` equal parts at once.

    Total nats over every token / ln 2 / bytes of text.
    """
    device = model.model.norm.weight.device
    training = model.training
    model.eval()
    length = len(tokens) // streams
    parts = tokens[: length * streams].view(streams, length)
    rest = tokens[length * streams :][None]
    nats = 0.0
    for part in (parts, rest):
        if not part.numel():
            continue
        inputs = torch.cat((torch.full((len(part), 1), BOS), part[:, :-1]), dim=1)
        states = model.initial_states(len(part))
        for inputs_now, targets_now in zip(inputs.split(512, 1), part.split(512, 1), strict=True):
            logits, *states = model(inputs_now.to(device), *states)
            loss = F.cross_entropy(logits.flatten(0, 1), targets_now.to(device).flatten(), reduction="sum")
            nats += loss.item()
    model.train(training)
    return nats / math.log(2) / size


@torch.no_grad()
def sample(model: HGRNBitForCausalLM, tokenizer: Tokenizer, prompt: str, length: int, seed: int) -> str:
    """Text drawn at temperature 0.8."""
    generator = torch.Generator().manual_seed(seed)
    model.eval()
    ids = tokenizer.encode(prompt, add_special_tokens=False).ids
    logits, *states = model(torch.tensor([[BOS, *ids]]), *model.initial_states(1))
    for _ in range(length):
        probabilities = torch.softmax(logits[0, -1] / 0.8, dim=-1)
        ids.append(int(torch.multinomial(probabilities, 1, generator=generator)))
        logits, *states = model(torch.tensor([ids[-1:]]), *states)
    return tokenizer.decode(ids)


@dataclass
class Run:
    """A training run: model, optimizer, carried states, the best weights so far, and its record."""

    model: HGRNBitForCausalLM
    optimizer: torch.optim.AdamW
    states: list[Tensor]
    best: dict[str, Tensor]
    record: dict[str, Any]

    def save(self, path: Path) -> None:
        """One safetensors file, the record as JSON in its metadata; nothing in it is executable."""
        tensors = {f"model.{k}": v.detach() for k, v in self.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        tensors |= {f"state.{i}": s for i, s in enumerate(self.states)}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"{key}.{name}"] = value
        partial = path.with_suffix(".partial")
        save_file(
            {k: v.contiguous().clone() for k, v in tensors.items()},
            partial,
            {"record": json.dumps(self.record)},
        )
        partial.replace(path)

    def load(self, path: Path) -> None:
        with safe_open(path, "pt") as file:
            self.record = json.loads(file.metadata()["record"])
            names = list(file.keys())
            names_of = {p: [n for n in names if n.startswith(p)] for p in ("model.", "best.")}
            read = {p: {n.removeprefix(p): file.get_tensor(n) for n in ns} for p, ns in names_of.items()}
            self.model.load_state_dict(read["model."])
            self.best = read["best."]
            self.states = [file.get_tensor(f"state.{i}") for i in range(len(self.states))]
            for name, parameter in self.model.named_parameters():
                self.optimizer.state[parameter] = {
                    key: file.get_tensor(f"{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")
                }


@click.group(help=__doc__)
def cli() -> None:
    pass


@cli.command(context_settings={"show_default": True})
@click.option(
    "--linear", type=click.Choice(list(LINEARS)), default="ternary", help="Ternary or ordinary layers."
)
@click.option("--steps", default=3000, help="Optimizer steps; may be changed when resuming.")
@click.option("--streams", default=8, help="Streams of text a step (the batch).")
@click.option("--window", default=128, help="Tokens of each stream a step.")
@click.option("--hidden", default=256)
@click.option("--layers", default=4)
@click.option("--rate", type=float, help="Peak learning rate.  [default: 4e-3 ternary, 1.5e-3 float]")
@click.option("--weight-decay", default=0.1, help="On matrices, in the first half of the run only.")
@click.option("--dropout", default=0.1)
@click.option("--seed", default=0)
@click.option("--threads", default=1)
@click.option("--device", default="cpu")
@click.option("--evaluate-every", default=250, help="Steps between validations, each of which saves the run.")
@click.option("--runs", type=click.Path(path_type=Path), default=RUNS)
def train(
    linear: str,
    steps: int,
    streams: int,
    window: int,
    hidden: int,
    layers: int,
    rate: float | None,
    weight_decay: float,
    dropout: float,
    seed: int,
    threads: int,
    device: str,
    evaluate_every: int,
    runs: Path,
) -> None:
    """Train, or resume training."""
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    text = Text.read()
    tokenizer = tokenizer_for(runs, text)
    train_tokens, validation_tokens = encode(tokenizer, text.train), encode(tokenizer, text.validation)
    validation_size = len(text.validation.encode())
    config = HGRNBitConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden,
        num_hidden_layers=layers,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    model = HGRNBitForCausalLM(config, LINEARS[linear]).to(device)
    add_dropout(model, dropout)
    peak = rate if rate is not None else PEAK_RATES[linear]
    options = {
        "linear": linear, "streams": streams, "window": window, "rate": peak, "weight_decay": weight_decay,
        "dropout": dropout, "seed": seed, "config": config.to_dict(),
    }  # fmt: skip
    record = {"options": options, "step": 0, "best_step": 0, "best": math.inf, "history": [], "seconds": 0.0}
    run = Run(model, build_optimizer(model), list(model.initial_states(streams)), {}, record)
    path = runs / f"{linear}.safetensors"
    if path.exists():
        run.load(path)
        if run.record["options"] != options:
            raise click.ClickException(f"{path} was made with other options: {run.record['options']}")
        run.states = [state.to(device) for state in run.states]
    source = Streams(train_tokens, streams, window)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {len(train_tokens):,} training tokens")

    model.train()
    started = time.monotonic() - run.record["seconds"]
    with tqdm(total=steps, initial=run.record["step"], desc=linear, mininterval=10) as bar:
        for step in range(run.record["step"], steps):
            progress = (step + 1) / steps
            for group in run.optimizer.param_groups:
                group["lr"] = learning_rate(progress, peak)
            run.optimizer.param_groups[0]["weight_decay"] = weight_decay if progress < 0.5 else 0.0
            torch.manual_seed(seed + step)
            inputs, targets, fresh = (tensor.to(device) for tensor in source.batch(step))
            run.states = [torch.where(fresh[:, None], 0.0, state) for state in run.states]
            logits, *states = model(inputs, *run.states)
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            run.optimizer.step()
            run.optimizer.zero_grad(set_to_none=True)
            run.states = [state.detach() for state in states]
            bar.update()
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
            if (step + 1) % evaluate_every and step + 1 != steps:
                continue
            measured = bits_per_byte(model, validation_tokens, validation_size, streams=16)
            if measured < run.record["best"]:
                run.record |= {"best": measured, "best_step": step + 1}
                run.best = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
            seconds = time.monotonic() - started
            run.record |= {"step": step + 1, "seconds": seconds, "steps": steps}
            run.record["history"].append(
                [step + 1, round(loss.item(), 4), round(measured, 4), round(seconds)]
            )
            run.save(path)
            bar.write(
                f"{linear} step {step + 1}: {measured:.4f} bits per byte on validation, {seconds:.0f} s"
            )


CARD = """\
---
license: apache-2.0
language: en
tags: [matmul-free, ternary, hgrn_bit]
---

# matmulfree-shakespeare

A MatMul-free language model (arXiv 2406.02528) small enough to compile, inspect and simulate whole:
{parameters:,} parameters, {layers} layers, {hidden} wide, every linear layer ternary, the head too. It writes
something like Shakespeare. It is a real checkpoint for trying the compiler on, in the layout and with the
tensor names of the published models; it is not a useful language model.

## Data

Shakespeare's plays (public domain) as collected for karpathy/char-rnn, 1.1 MB: the first nine tenths to train on,
the last tenth ({validation_bytes:,} bytes) to validate on. Byte-level BPE of {vocabulary} tokens, learnt from the
training part only: {tokens:,} tokens of training text.

## Training

{commands}

Random seed {seed}; {streams} streams of {window} tokens a step, the recurrent state carried along for 2,048 tokens;
AdamW, cosine rate from {rate_ternary:g} (ternary) and {rate_float:g} (fp32), weight decay {weight_decay:g} in the
first half, dropout {dropout:g}. The weights are those of the step that validated best. One CPU thread each.

## Result

Bits per byte of the whole validation text, read in order with the state carried from start to end
(total nats / ln 2 / bytes). The weights here are rounded to float16. The
fp32 model has the same shape, with ordinary linear layers in place of ternary ones.

| model | best step | training tokens read | bits per byte |
| --- | --- | --- | --- |
| ternary, as here | {ternary[best_step]:,} of {ternary[steps]:,} | {ternary[read]:,} | **{ternary[bits]:.3f}** |
| ternary, unrounded | as above | as above | {ternary[unrounded]:.3f} |
| fp32 | {float[best_step]:,} of {float[steps]:,} | {float[read]:,} | {float[bits]:.3f} |

The best step of both was chosen by this same text, which flatters both alike, a little.

## A sample

Temperature 0.8, after `ROMEO:`:

```text
{sample}
```

## Limits

It has read 1 MB of one author. It knows no facts, its grammar wanders, and it never ends a text: `<|eos|>` is in the
vocabulary, but not in the training data. Begin with `<|bos|>`, as training did.

Licence: Apache-2.0.
"""


@cli.command()
@click.option("--runs", type=click.Path(path_type=Path), default=RUNS, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=CHECKPOINT, show_default=True)
@click.option("--threads", default=1, show_default=True)
def export(runs: Path, out: Path, threads: int) -> None:
    """Write the best ternary weights as a checkpoint, with a model card that compares both runs."""
    torch.set_num_threads(threads)
    text = Text.read()
    tokenizer = tokenizer_for(runs, text)
    validation_tokens = encode(tokenizer, text.validation)
    size = len(text.validation.encode())
    results: dict[str, dict[str, Any]] = {}
    for linear, kind in LINEARS.items():
        with safe_open(runs / f"{linear}.safetensors", "pt") as file:
            record = json.loads(file.metadata()["record"])
            best = {n.removeprefix("best."): file.get_tensor(n) for n in file.keys() if n.startswith("best.")}  # noqa: SIM118
        options = record["options"]
        model = HGRNBitForCausalLM(HGRNBitConfig.from_dict(options["config"]), kind).eval()
        model.load_state_dict(best)
        results[linear] = {
            "steps": record["step"],
            "best_step": record["best_step"],
            "read": record["best_step"] * options["streams"] * options["window"],
            "rate": options["rate"],
            "bits": bits_per_byte(model, validation_tokens, size, streams=1),
        }
        if linear == "ternary":
            rounded = {name: tensor.half() for name, tensor in best.items()}
            model.load_state_dict(rounded)
            ternary_model, ternary_options = model, options
    ternary = results["ternary"]
    ternary["unrounded"] = ternary["bits"]
    ternary["bits"] = bits_per_byte(ternary_model, validation_tokens, size, streams=1)

    out.mkdir(parents=True, exist_ok=True)
    save_file(rounded, out / "model.safetensors", {"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    write_json(out / "config.json", ternary_model.config.to_dict() | {"torch_dtype": "float16"})
    ids = {"bos_token_id": BOS, "eos_token_id": EOS}
    write_json(out / "generation_config.json", ids | {"do_sample": True, "temperature": 0.8})
    tokenizer.save(str(out / "tokenizer.json"))
    card = CARD.format(
        **results,
        **{key: ternary_options[key] for key in ("seed", "streams", "window", "weight_decay", "dropout")},
        parameters=sum(p.numel() for p in ternary_model.parameters()),
        layers=ternary_model.config.num_hidden_layers,
        hidden=ternary_model.config.hidden_size,
        vocabulary=tokenizer.get_vocab_size(),
        validation_bytes=size,
        tokens=len(encode(tokenizer, text.train)),
        rate_ternary=ternary["rate"],
        rate_float=results["float"]["rate"],
        commands="\n".join(
            f"    python examples/train_shakespeare.py train --linear {linear} --steps {result['steps']}"
            for linear, result in results.items()
        ),
        sample=sample(ternary_model, tokenizer, "ROMEO:\n", 200, seed=0),
    )
    (out / "README.md").write_text(card, encoding="utf-8")
    for linear, result in results.items():
        click.echo(f"{linear}: {result['bits']:.4f} bits per byte, best at step {result['best_step']}")


def write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    cli()
