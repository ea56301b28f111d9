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
from dataclasses import asdict, dataclass
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
UNKNOWN = "<|unk|>"
MODEL_CARD = HERE / "data" / "model_card.md"
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


def train_tokenizer(text: str, vocabulary: int) -> Tokenizer:
    """Byte-level byte-pair encoding, so that any text at all can be encoded.

    A vocabulary too small for every byte has those of the text; any other byte is `<|unk|>`.
    """
    specials, alphabet, unknown = ["<|bos|>", "<|eos|>"], pre_tokenizers.ByteLevel.alphabet(), None
    if vocabulary < 2 * len(alphabet):
        specials, alphabet, unknown = [*specials, UNKNOWN], [], UNKNOWN
    tokenizer = Tokenizer(models.BPE(unk_token=unknown))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=specials,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    return tokenizer


def tokenizer_for(runs: Path, text: Text, vocabulary: int = VOCABULARY) -> Tokenizer:
    """The tokenizer of a run directory, learnt when it is first asked for."""
    path = runs / "tokenizer.json"
    if not path.exists():
        runs.mkdir(parents=True, exist_ok=True)
        train_tokenizer(text.train, vocabulary).save(str(path))
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


@dataclass(frozen=True)
class Recipe:
    """What a run's weights depend on, but for the number of its steps."""

    linear: str
    streams: int
    window: int
    rate: float
    weight_decay: float
    dropout: float
    seed: int
    config: HGRNBitConfig

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"config": self.config.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Recipe":
        return cls(**values | {"config": HGRNBitConfig.from_dict(values["config"])})

    def build_model(self) -> HGRNBitForCausalLM:
        return HGRNBitForCausalLM(self.config, LINEARS[self.linear])


class Run:
    """A training run: model, optimizer, carried states, the best weights so far, and its record."""

    def __init__(self, recipe: Recipe, device: str) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.device = device
        self.model = recipe.build_model().to(device)
        add_dropout(self.model, recipe.dropout)
        self.optimizer = build_optimizer(self.model)
        self.states = self.model.initial_states(recipe.streams)
        self.best: dict[str, Tensor] = {}
        self.record: dict[str, Any] = {
            "options": recipe.to_dict(), "step": 0, "best_step": 0, "best": math.inf, "history": [],
            "seconds": 0.0,
        }  # fmt: skip

    def take_step(self, source: Streams, step: int, steps: int) -> float:
        """One optimizer step; returns its loss in nats a token."""
        progress = (step + 1) / steps
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(progress, self.recipe.rate)
        self.optimizer.param_groups[0]["weight_decay"] = self.recipe.weight_decay if progress < 0.5 else 0.0
        torch.manual_seed(self.recipe.seed + step)
        inputs, targets, fresh = (tensor.to(self.device) for tensor in source.batch(step))
        states = (torch.where(fresh[:, None], 0.0, state) for state in self.states)
        logits, *states = self.model(inputs, *states)
        loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.states = tuple(state.detach() for state in states)
        return loss.item()

    def note(self, step: int, loss: float, bits: float, seconds: float) -> None:
        """Records a validation after `step` steps, and keeps the weights if they are the best so far."""
        if bits < self.record["best"]:
            self.record |= {"best": bits, "best_step": step}
            self.best = {k: v.detach().cpu().clone() for k, v in self.model.state_dict().items()}
        self.record |= {"step": step, "seconds": seconds}
        self.record["history"].append([step, round(loss, 4), round(bits, 4), round(seconds)])

    def save(self, path: Path) -> None:
        """One safetensors file, the record as JSON in its metadata; nothing in it is executable."""
        tensors = {f"model.{k}": v.detach() for k, v in self.model.state_dict().items()}
        tensors |= {f"best.{k}": v for k, v in self.best.items()}
        tensors |= {f"state.{i}": s for i, s in enumerate(self.states)}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"{key}.{name}"] = value
        tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
        partial = path.with_suffix(".partial")
        save_file(tensors, partial, {"record": json.dumps(self.record)})
        partial.replace(path)

    def resume(self, path: Path) -> None:
        with safe_open(path, "pt") as file:
            self.record = json.loads(file.metadata()["record"])
            if self.record["options"] != self.recipe.to_dict():
                raise click.ClickException(f"{path} was made with other options: {self.record['options']}")
            self.model.load_state_dict(tensors_under("model.", file))
            self.best = tensors_under("best.", file)
            self.states = tuple(
                file.get_tensor(f"state.{i}").to(self.device) for i in range(len(self.states))
            )
            for name, parameter in self.model.named_parameters():
                state = {key: file.get_tensor(f"{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
                moments = {key: state[key].to(self.device) for key in ("exp_avg", "exp_avg_sq")}
                self.optimizer.state[parameter] = state | moments


def tensors_under(prefix: str, file: Any) -> dict[str, Tensor]:
    names = [name for name in list(file.keys()) if name.startswith(prefix)]
    return {name.removeprefix(prefix): file.get_tensor(name) for name in names}


@click.group(help=__doc__)
def cli() -> None:
    pass


@cli.command(context_settings={"show_default": True})
@click.option("--linear", type=click.Choice(list(LINEARS)), default="ternary", help="The kind of layer.")
@click.option("--steps", default=4000, help="Optimizer steps; may be changed when resuming.")
@click.option("--streams", default=8, help="Streams of text a step (the batch).")
@click.option("--window", default=128, help="Tokens of each stream a step.")
@click.option("--hidden", default=256, help="Width.")
@click.option("--layers", default=4, help="Depth.")
@click.option("--intermediate", type=int, help="Width of the channel mixer.  [default: 8/3 of the width]")
@click.option("--vocabulary", default=VOCABULARY, help="Tokens; below 512 not every byte is one.")
@click.option("--rate", type=float, help="Peak learning rate.  [default: 4e-3 ternary, 1.5e-3 float]")
@click.option("--weight-decay", default=0.1, help="On matrices, in the first half of the run only.")
@click.option("--dropout", default=0.1, help="Of what each mixer adds to the residual stream.")
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
    intermediate: int | None,
    vocabulary: int,
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
    text = Text.read()
    tokenizer = tokenizer_for(runs, text, vocabulary)
    source = Streams(encode(tokenizer, text.train), streams, window)
    validation, validation_bytes = encode(tokenizer, text.validation), len(text.validation.encode())
    config = HGRNBitConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=hidden,
        num_hidden_layers=layers,
        intermediate_size=intermediate,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    peak = rate if rate is not None else PEAK_RATES[linear]
    run = Run(Recipe(linear, streams, window, peak, weight_decay, dropout, seed, config), device)
    path = runs / f"{linear}.safetensors"
    if path.exists():
        run.resume(path)
    run.model.train()
    started = time.monotonic() - run.record["seconds"]
    with tqdm(total=steps, initial=run.record["step"], desc=linear, mininterval=10) as bar:
        for step in range(run.record["step"], steps):
            loss = run.take_step(source, step, steps)
            bar.update()
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            if (step + 1) % evaluate_every == 0 or step + 1 == steps:
                bits = bits_per_byte(run.model, validation, validation_bytes, streams=16)
                seconds = time.monotonic() - started
                run.note(step + 1, loss, bits, seconds)
                run.save(path)
                bar.write(f"{linear} step {step + 1}: {bits:.4f} bits per byte, {seconds:.0f} s")


@dataclass(frozen=True)
class Trained:
    """The best weights of a run, and how it came to them."""

    recipe: Recipe
    steps: int
    best_step: int
    weights: dict[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> "Trained":
        with safe_open(path, "pt") as file:
            record = json.loads(file.metadata()["record"])
            recipe = Recipe.from_dict(record["options"])
            return cls(recipe, record["step"], record["best_step"], tensors_under("best.", file))

    @property
    def tokens_read(self) -> int:
        return self.best_step * self.recipe.streams * self.recipe.window

    def model(self, dtype: torch.dtype) -> HGRNBitForCausalLM:
        """The model with its weights rounded to a type; it computes in f32 all the same."""
        model = self.recipe.build_model()
        model.load_state_dict({name: tensor.to(dtype) for name, tensor in self.weights.items()})
        return model.eval()


@cli.command(context_settings={"show_default": True})
@click.option("--runs", type=click.Path(path_type=Path), default=RUNS)
@click.option("--out", type=click.Path(path_type=Path), default=CHECKPOINT)
@click.option(
    "--card", type=click.Path(path_type=Path, exists=True), default=MODEL_CARD, help="Its template."
)
@click.option("--threads", default=1)
def export(runs: Path, out: Path, card: Path, threads: int) -> None:
    """Write the best ternary weights as a checkpoint, with a model card.

    The card compares both runs, if there is a float one.
    """
    torch.set_num_threads(threads)
    text = Text.read()
    tokenizer = tokenizer_for(runs, text)
    validation, validation_bytes = encode(tokenizer, text.validation), len(text.validation.encode())
    ternary = Trained.read(runs / "ternary.safetensors")
    rounded = ternary.model(torch.float16)
    models = {"bits": rounded, "unrounded_bits": ternary.model(torch.float32)}
    facts: dict[str, Any] = {}
    if (runs / "float.safetensors").exists():
        facts["fp32"] = Trained.read(runs / "float.safetensors")
        models["fp32_bits"] = facts["fp32"].model(torch.float32)
    bits = {
        name: bits_per_byte(model, validation, validation_bytes, streams=1) for name, model in models.items()
    }
    write_checkpoint(out, rounded, tokenizer)
    filled = card.read_text(encoding="utf-8").format(
        **bits,
        **facts,
        ternary=ternary,
        parameters=sum(tensor.numel() for tensor in ternary.weights.values()),
        validation_bytes=validation_bytes,
        training_tokens=len(encode(tokenizer, text.train)),
        sample=sample(rounded, tokenizer, "ROMEO:\n", 300, seed=0),
    )
    (out / "README.md").write_text(filled, encoding="utf-8")
    click.echo(", ".join(f"{name} {value:.4f}" for name, value in bits.items()))


def write_checkpoint(out: Path, model: HGRNBitForCausalLM, tokenizer: Tokenizer) -> None:
    """Float16, in Hugging Face layout."""
    out.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.half() for name, tensor in model.state_dict().items()}
    save_file(weights, out / "model.safetensors", {"format": "pt"})
    (out / "model.safetensors").chmod(0o644)
    ids = {"bos_token_id": BOS, "eos_token_id": EOS}
    write_json(out / "config.json", model.config.to_dict() | {"torch_dtype": "float16"})
    write_json(out / "generation_config.json", ids | {"do_sample": True, "temperature": 0.8})
    tokenizer.save(str(out / "tokenizer.json"))


def write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    cli()
