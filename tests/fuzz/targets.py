"""Fuzz targets: each reads bytes that others wrote. Whatever is wrong with them must be an error of ours.

A target is a function of bytes that returns, or raises one of `INPUT_ERRORS`; anything else is a bug, and so is a
hang, or memory beyond `MEMORY_BYTES`. `SEEDS` has valid files of each.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import struct
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from sterna.artifact import MANIFEST, UNSEALED, WEIGHTS, Artifact
from sterna.artifact_writer import Contents, write_artifact
from sterna.diagnostics import INPUT_ERRORS, one_line
from sterna.dialects.context import parse
from sterna.dialects.weights import RandomStore
from sterna.frontends.errors import FrontendError, UnsupportedOpsError
from sterna.frontends.huggingface import Checkpoint, SafetensorsFile
from sterna.frontends.models.hgrn_bit_config import HGRNBitConfig
from sterna.frontends.tokenizer import Tokenizer
from sterna.model import CompiledModel
from sterna.opt import SternaOptMain
from sterna.pass_runner import PassFailure
from sterna.targets.cpu import CpuTarget
from tests.fuzz.mutations import mutate_tokens
from tests.fuzz.onnx_models import mutate_model, onnx_seeds, run_onnx

ROOT = Path(__file__).parents[2]
MEMORY_BYTES = 2 << 30
SECONDS = 20
"""Of the processor's time, that a single input may take."""

LONGEST_MESSAGE = 2000
"""Of an error, in characters: what a file says is shortened before it is shown."""


class UnclearError(Exception):
    """An error of the right type that a user could not read."""


def read_error(error: BaseException) -> None:
    """An error is shown as it is: one line, but for the list of operations that are not supported."""
    text = one_line(error)
    lines = 1 + len(error.ops) if isinstance(error, UnsupportedOpsError) else 1
    if text.count("\n") + 1 != lines or not text or len(text) > lines * LONGEST_MESSAGE:
        raise UnclearError(f"{type(error).__name__}: {text[:200]!r}, {len(text)} characters") from error


@dataclass(frozen=True)
class Target:
    """`run` on a file's bytes; `seeds` gives valid ones; `mutate` is given a file and the seed of a change to it."""

    run: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    mutate: Callable[[bytes, int], bytes] | None = mutate_tokens
    """None where only libFuzzer's own changes make sense."""

    def __call__(self, data: bytes) -> None:
        try:
            self.run(data)
        except INPUT_ERRORS as error:
            read_error(error)


@cache
def folder(name: str) -> Path:
    """A folder that stays for the life of the process, in memory where there is such a place."""
    base = "/dev/shm" if Path("/dev/shm").is_dir() else None
    path = Path(tempfile.mkdtemp(prefix="sterna-fuzz-", dir=base))
    import atexit

    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path / name


# --- safetensors ------------------------------------------------------------------------------------------------


def safetensors(tensors: dict[str, tuple[str, Any]]) -> bytes:
    header: dict[str, Any] = {}
    data = b""
    for name, (dtype, values) in tensors.items():
        header[name] = {
            "dtype": dtype,
            "shape": list(values.shape),
            "data_offsets": [len(data), len(data) + values.nbytes],
        }
        data += values.tobytes()
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def framed(data: bytes) -> bytes:
    """The header's length made right half of the time, so that what is behind it is met as well."""
    body = data[8:]
    end = body.rfind(b"}") + 1
    return struct.pack("<Q", end) + body if end and len(data) % 2 else data


def run_safetensors(data: bytes) -> None:
    path = folder("a.safetensors")
    path.write_bytes(framed(data))
    file = SafetensorsFile(path)
    for name in file.names():
        values = file.read(name)
        assert values.shape == file.shape(name)


def safetensors_seeds() -> list[bytes]:
    zeros = np.zeros((2, 3), np.float32)
    return [
        safetensors({}),
        safetensors({"a": ("F32", zeros)}),
        safetensors({"a": ("F16", zeros.astype(np.float16)), "b": ("BF16", np.zeros(3, np.uint16))}),
        safetensors({"b": ("BOOL", np.zeros(3, np.bool_)), "c": ("I64", np.zeros((), np.int64))}),
    ]


# --- a checkpoint's folder --------------------------------------------------------------------------------------

TINY = HGRNBitConfig(vocab_size=4, hidden_size=4, num_hidden_layers=1, intermediate_size=4)
SHARD = "model-00001-of-00001.safetensors"
INDEX = "model.safetensors.index.json"


def tiny_tensors() -> bytes:
    return safetensors(
        {name: ("F16", np.ones(shape, np.float16)) for name, shape in TINY.tensor_shapes().items()}
    )


@cache
def checkpoint_files() -> dict[str, bytes]:
    index = {"metadata": {}, "weight_map": dict.fromkeys(TINY.tensor_shapes(), SHARD)}
    return {
        "config.json": json.dumps(TINY.to_dict()).encode(),
        INDEX: json.dumps(index).encode(),
        SHARD: tiny_tensors(),
    }


def run_checkpoint(data: bytes) -> None:
    """The first byte says which file of a good checkpoint the rest is in place of."""
    path = folder("checkpoint")
    path.mkdir(exist_ok=True)
    names = list(checkpoint_files())
    chosen = names[data[0] % len(names)] if data else ""
    for name, content in checkpoint_files().items():
        (path / name).write_bytes(data[1:] if name == chosen else content)
    checkpoint = Checkpoint(path)
    for name in checkpoint.names():
        checkpoint.read(name)


def checkpoint_seeds() -> list[bytes]:
    return [bytes([n]) + content for n, content in enumerate(checkpoint_files().values())]


# --- tokenizers -------------------------------------------------------------------------------------------------


def run_tokenizer(data: bytes, name: str) -> None:
    path = folder("tokenizer")
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    (path / name).write_bytes(data)
    tokenizer = Tokenizer.load(path)
    with suppress(FrontendError):
        ids = tokenizer.encode("To be, or not to be: é \U0001f426\n")
        tokenizer.decode([*ids[:64], 0, 1, 2, 10**6])
    stream = tokenizer.stream()
    for token in range(8):
        stream.push(token)
    stream.flush()


def run_tokenizer_json(data: bytes) -> None:
    run_tokenizer(data, "tokenizer.json")


def run_tokenizer_model(data: bytes) -> None:
    run_tokenizer(data, "tokenizer.model")


def tokenizer_json_seeds() -> list[bytes]:
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, normalizers, pre_tokenizers

    symbols = {symbol: n for n, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bpe = Backend(models.BPE({**symbols, "to": 256, "be": 257}, [("t", "o"), ("b", "e")]))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    words = Backend(models.WordLevel({"[UNK]": 0, "to": 1, "be": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.normalizer = normalizers.Lowercase()
    unigram = Backend(models.Unigram([("<unk>", 0.0), ("\u2581to", -1.0), ("be", -2.0)], 0, False))
    unigram.pre_tokenizer = pre_tokenizers.Metaspace()
    unigram.decoder = decoders.Metaspace()
    return [each.to_str().encode() for each in (words, unigram, bpe)]


def tokenizer_model_seeds() -> list[bytes]:
    import io

    import sentencepiece

    model = io.BytesIO()
    sentences = ["to be or not to be", "that is the question", "whether tis nobler in the mind to suffer"]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=model, vocab_size=30, minloglevel=2
    )
    return [model.getvalue()]


# --- artifacts --------------------------------------------------------------------------------------------------

IDENTITY = """
func.func @forward(%x : tensor<?x4xf32>) -> tensor<?x4xf32> {
  %y = ternary.elementwise(%x : tensor<?x4xf32>) {
  ^bb0(%a : f32):
    %b = arith.negf %a : f32
    ternary.yield %b : f32
  } -> tensor<?x4xf32>
  func.return %y : tensor<?x4xf32>
}
"""


@cache
def good_artifact() -> Path:
    from sterna.dialects.context import make_context
    from sterna.passes.plan_memory import PlanMemoryPass
    from sterna.targets.program import Program

    module = parse(IDENTITY)
    PlanMemoryPass(4).apply(make_context(), module)
    path = folder("good.sterna")
    write_artifact(
        path,
        Contents(
            planned=module,
            weights=RandomStore({}),
            target="cpu",
            program=Program.of(module).to_json(),
            kernels=CpuTarget().build(module),
            stages={"imported": IDENTITY, "scheduled": str(module)},
            source="fuzz",
            companions={"config.json": b'{"eos_token_id": 2}', "tokenizer.json": tokenizer_json_seeds()[0]},
        ),
    )
    return path


def sealed(text: bytes) -> bytes:
    """The manifest with a seal that is right, where it has one at all: else nothing behind the seal is met."""
    unsealed = re.sub(rb'("seal": ")[0-9a-f]{64}"', rb"\g<1>" + UNSEALED.encode() + b'"', text, count=1)
    return unsealed.replace(UNSEALED.encode(), hashlib.sha256(unsealed).hexdigest().encode(), 1)


def run_manifest(data: bytes) -> None:
    """A manifest beside the files of a good artifact."""
    path = folder("manifest.sterna")
    if not path.exists():
        shutil.copytree(good_artifact(), path)
    (path / MANIFEST).write_bytes(sealed(data))
    load_artifact(path)


RESEALED = (WEIGHTS, "config.json", "tokenizer.json", "ir/0-imported.mlir")


def run_sealed_file(data: bytes) -> None:
    """The first byte says which file the rest is in place of; the manifest has its right size and sha256."""
    path = folder("resealed.sterna")
    if not path.exists():
        shutil.copytree(good_artifact(), path)
    names = [name for name in RESEALED if (path / name).exists()]
    name = names[data[0] % len(names)] if data else names[0]
    content = data[1:]
    manifest = json.loads((good_artifact() / MANIFEST).read_text())
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    kept = (path / name).read_bytes()
    (path / name).write_bytes(content)
    (path / MANIFEST).write_bytes(sealed(json.dumps(manifest, indent=1).encode()))
    try:
        load_artifact(path)
    finally:
        (path / name).write_bytes(kept)


def load_artifact(path: Path) -> None:
    """All that reading an artifact does, short of running its kernels, which are trusted as programs are."""
    artifact = Artifact.open(path)
    artifact.config()
    for stage in artifact.stages():
        with suppress(*INPUT_ERRORS):
            parse(artifact.ir(stage))
    model = CompiledModel(artifact)
    model.initial_states()


def manifest_seeds() -> list[bytes]:
    return [(good_artifact() / MANIFEST).read_bytes()]


def sealed_seeds() -> list[bytes]:
    path = good_artifact()
    names = [name for name in RESEALED if (path / name).exists()]
    return [bytes([n]) + (path / name).read_bytes() for n, name in enumerate(names)]


# --- IR text ----------------------------------------------------------------------------------------------------


def run_ir(data: bytes) -> None:
    """A text that is accepted prints to one that is accepted, and that prints as itself."""
    module = parse(data.decode("utf-8", errors="replace"))
    text = str(module)
    if str(parse(text)) != text:
        raise UnclearError(f"printing and parsing is not a fixed point of {text[:200]!r}")


PIPELINES = (
    "canonicalize,cse",
    "raise-bit-linear,fold-weights,ternarize,fuse-norm-quantize,fuse-projections,fuse-elementwise,expand-math,"
    "choose-encodings,outline-layers,plan-memory{max-rows=8}",
    "fuse-norm-quantize,fuse-projections,fuse-elementwise",
    "plan-memory{max-rows=8}",
    "convert-ternary-to-loops{isa=avx2}",
)


def run_opt(data: bytes) -> None:
    """`sterna-opt` with one of the pipelines, which the first byte chooses, and no weights."""
    path = folder("input.mlir")
    path.write_bytes(data[1:])
    pipeline = PIPELINES[data[0] % len(PIPELINES)] if data else PIPELINES[0]
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        try:
            SternaOptMain([str(path), "-p", pipeline, "--reproducer", str(folder("reproducer.mlir"))]).run()
        except UnicodeDecodeError:
            # What its main function makes a line of.
            return
        except PassFailure as failure:
            # The line is for users; a pass that stumbles over verified IR is still wrong.
            raise (failure.error if failure.is_defect else failure) from None


def ir_texts() -> list[str]:
    from tests.raised_models import RaisedModel

    documents = re.findall(r"```mlir\n(.*?)```", (ROOT / "docs/ir.md").read_text(), re.DOTALL)
    checks = [path.read_text() for path in sorted((ROOT / "tests/filecheck").glob("*.mlir"))]
    model = RaisedModel(layers=1, hidden=8, mlp=16, vocabulary=8).text()
    return [*documents, *(without_comments(text) for text in checks), model]


def without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("//")) + "\n"


def ir_seeds() -> list[bytes]:
    return [text.encode() for text in ir_texts()]


def opt_seeds() -> list[bytes]:
    return [bytes([n]) + text.encode() for text in ir_texts() for n in range(len(PIPELINES))]


TARGETS: dict[str, Target] = {
    "safetensors": Target(run_safetensors, safetensors_seeds),
    "checkpoint": Target(run_checkpoint, checkpoint_seeds),
    "tokenizer-json": Target(run_tokenizer_json, tokenizer_json_seeds),
    "tokenizer-model": Target(run_tokenizer_model, tokenizer_model_seeds, mutate=None),
    "manifest": Target(run_manifest, manifest_seeds),
    "sealed-files": Target(run_sealed_file, sealed_seeds),
    "onnx": Target(run_onnx, onnx_seeds, mutate_model),
    "ir": Target(run_ir, ir_seeds),
    "opt": Target(run_opt, opt_seeds),
}
