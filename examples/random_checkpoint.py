"""Write a checkpoint of a published size with random weights, to measure speed where no download is possible.

    python examples/random_checkpoint.py OUTDIR --size 2.7B
    python examples/random_checkpoint.py OUTDIR --size bitnet-tiny

The layout, configuration, tensor names and types are the published ones; what the model says is noise. Tensors are
made and written piece by piece, so that memory stays small.
"""

import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import click
import numpy as np
from tqdm import tqdm

from sterna.frontends.huggingface import ModelConfig
from sterna.frontends.models.bitnet_config import BitNetConfig
from sterna.frontends.models.hgrn_bit_config import HGRNBitConfig

TOKENIZER = Path(__file__).parent / "checkpoints" / "matmulfree-shakespeare" / "tokenizer.json"
WEIGHTS_AT_ONCE = 1 << 22
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
PUBLISHED = {
    "370M": replace(HGRNBitConfig(), hidden_size=1024, num_hidden_layers=24),
    "1.3B": replace(HGRNBitConfig(), hidden_size=2048, num_hidden_layers=24),
    "2.7B": replace(HGRNBitConfig(), hidden_size=2560, num_hidden_layers=32),
}
BITNETS = {
    "bitnet-2B": BitNetConfig(tie_word_embeddings=True, max_position_embeddings=4096),
    "bitnet-2B-online": BitNetConfig(
        tie_word_embeddings=True, max_position_embeddings=4096, quantization_mode="online"
    ),
    "bitnet-tiny": BitNetConfig(
        vocab_size=4096,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=None,
        tie_word_embeddings=True,
    ),
}
"""The published transformer in both of its forms, and a small one to look at."""
SIZES: dict[str, ModelConfig] = {**PUBLISHED, **BITNETS}


@dataclass(frozen=True)
class Stored:
    """A tensor of the file: its type, as the format calls it, and its shape."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * (1 if self.dtype == "U8" else 2)


Shapes = dict[str, Stored]


def stored_tensors(config: ModelConfig) -> Shapes:
    """Trits packed in bytes as they are, everything else as float16."""
    return {
        name: Stored("U8" if config.tensor_dtypes(name) == ("U8",) else "F16", shape)
        for name, shape in config.tensor_shapes().items()
    }


class ByteSize(click.ParamType):  # pyright: ignore[reportMissingTypeArgument] -- generic only since click 8.2
    name = "bytes"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value).upper()
        number, unit = (text[:-2], UNITS[text[-2:]]) if text[-2:] in UNITS else (text, 1)
        try:
            size = int(float(number) * unit)
        except (ValueError, OverflowError):
            size = 0
        return size if size > 0 else self.fail(f"expected a size such as 500MB or 2GB, found {value!r}")


def split_into_shards(shapes: Shapes, shard_size: int) -> list[Shapes]:
    """Whole tensors in their order, each shard as full as it may be."""
    shards: list[Shapes] = [{}]
    filled = 0
    for name, tensor in shapes.items():
        size = tensor.bytes
        if shards[-1] and filled + size > shard_size:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += size
    return shards


def safetensors_header(shapes: Shapes) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, tensor in shapes.items():
        end = start + tensor.bytes
        entries[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": [start, end]}
        start = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def random_weights(name: str, tensor: Stored, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """A trained model's ranges: norms near one, any trits, everything else normal, as the published initialization."""
    count = math.prod(tensor.shape)
    centre, deviation = (1.0, 0.1) if name.endswith("norm.weight") else (0.0, 0.02)
    for start in range(0, count, WEIGHTS_AT_ONCE):
        size = min(WEIGHTS_AT_ONCE, count - start)
        if tensor.dtype == "U8":
            fields = generator.integers(0, 3, (4, size), np.uint8)
            yield fields[0] | fields[1] << 2 | fields[2] << 4 | fields[3] << 6
            continue
        if name.endswith("weight_scale"):
            yield np.full(size, 0.02, "<f2")
            continue
        values = generator.standard_normal(size, np.float32)
        yield (values * np.float32(deviation) + np.float32(centre)).astype("<f2")


def write_shard(file: BinaryIO, shapes: Shapes, generator: np.random.Generator, bar: "tqdm[Any]") -> None:
    file.write(safetensors_header(shapes))
    for name, tensor in shapes.items():
        for values in random_weights(name, tensor, generator):
            file.write(values.data)
            bar.update(values.nbytes)


@click.command(help=__doc__)
@click.argument("outdir", type=click.Path(path_type=Path))
@click.option("--size", type=click.Choice(list(SIZES)), required=True)
@click.option("--shard-size", type=ByteSize(), default="2GB", show_default=True)
@click.option("--seed", default=0, show_default=True)
def main(outdir: Path, size: str, shard_size: int, seed: int) -> None:
    config = SIZES[size]
    shards = split_into_shards(stored_tensors(config), shard_size)
    generator = np.random.default_rng(seed)
    outdir.mkdir(parents=True, exist_ok=True)
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    if len(shards) == 1:
        names = ["model.safetensors"]
    total = sum(tensor.bytes for shard in shards for tensor in shard.values())
    with tqdm(total=total, unit="B", unit_scale=True, desc=size) as bar:
        for name, shard in zip(names, shards, strict=True):
            with (outdir / name).open("wb") as file:
                write_shard(file, shard, generator, bar)
    if len(shards) > 1:
        weight_map = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (outdir / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    values = config.to_dict() | {"torch_dtype": "float16"}
    (outdir / "config.json").write_text(json.dumps(values, indent=2) + "\n")
    shutil.copyfile(TOKENIZER, outdir / "tokenizer.json")


if __name__ == "__main__":
    main()
