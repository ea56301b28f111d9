"""The kernels of an emitted file as launches ask for them, compiled for a GPU that need not be here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from sterna.targets.triton.ahead import target_of


@dataclass(frozen=True)
class Launch:
    """A kernel with the constants of a launch: the texts of its stages by name, and its metadata."""

    name: str
    constants: Mapping[str, Any]
    texts: Mapping[str, Any]
    metadata: Any

    @property
    def many(self) -> bool | None:
        """Of a product: whether it takes the way of many rows."""
        return self.constants.get("MANY")


@contextmanager
def driver_of(target: Any) -> Iterator[None]:
    """Triton finds a device to compile for; nothing can be launched."""
    import triton

    class Driver:
        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: object = None) -> int:
            return 0

        def get_current_target(self) -> Any:
            return target

    active = triton.runtime.driver
    before = active._active
    active.set_active(Driver())
    try:
        yield
    finally:
        active._active = before


def compiled_launches(
    module: ModuleType,
    isa: str,
    calls: Sequence[tuple[int, int]],
    configurations: Sequence[int],
    *,
    only: str | tuple[str, ...] = "",
) -> list[Launch]:
    """Of a language model: what is launched for each of `calls` (texts, tokens of each), each kernel once.

    Of products the configurations of those numbers in `FEW`, and the largest of `MANY` whose sums fit; with `only`,
    the kernels whose names begin so, or as one of them does.
    """
    import triton.language as tl
    from triton.runtime.autotuner import Autotuner
    from triton.runtime.jit import JITFunction

    emitted: Any = module
    is_cuda = isa.startswith("cuda:")
    emitted.CUDA = is_cuda
    emitted.PTX = tl.constexpr(is_cuda)
    emitted.OVERLAP = tl.constexpr(isa == "cuda:90")
    emitted.EXACT = {"enable_fp_fusion": False, **({"launch_pdl": True} if emitted.OVERLAP else {})}
    found: dict[tuple[str, str], Launch] = {}
    launch = JITFunction.run

    def only_compile(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> None:
        key = (self.fn.__name__, str(sorted(options.items(), key=str)))
        if key not in found and key[0].startswith(only):
            kernel = launch(self, *args, grid=grid, warmup=True, **options)
            found[key] = Launch(key[0], options, kernel.asm, kernel.metadata)

    def some_configurations(self: Any, *args: Any, **options: Any) -> None:
        several = [self.configs[n] for n in configurations] if not options["MANY"] else self.configs[-1:]
        for config in several:
            self.fn.run(*args, **options, **config.all_kwargs())

    with pytest.MonkeyPatch.context() as patch, driver_of(target_of(isa)):
        patch.setattr(JITFunction, "run", only_compile)
        patch.setattr(Autotuner, "run", some_configurations)
        for texts, length in calls:
            call(emitted, texts, length)
    return list(found.values())


def launches_of(module: ModuleType, texts: int, length: int) -> list[str]:
    """The kernels of one call of a language model, in their order; nothing is compiled."""
    from triton.runtime.jit import JITFunction

    found: list[str] = []

    def only_count(self: Any, *args: Any, **options: Any) -> None:
        found.append(self.fn.__name__)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JITFunction, "run", only_count)
        for product in vars(module).values():
            if isinstance(product, module.Product):
                product.few.configs, product.many.configs = product.few.configs[:1], product.many.configs[:1]
        call(module, texts, length)
    return found


def call(emitted: Any, texts: int, length: int) -> None:
    import torch

    device = torch.device("meta")
    size = max(offset + length for offset, length, _ in emitted.WEIGHTS.values())
    weights = emitted.load_weights(torch.empty(size, dtype=torch.uint8, device=device), device)
    batch = emitted.Batch(texts, length, device)
    tokens = torch.zeros(texts * length, dtype=torch.int64, device=device)
    states = [batch.empty((texts, *shape), dtype) for shape, dtype in emitted.STATES]
    logits, *_ = emitted.forward(batch, weights, tokens, *states)
    emitted.likeliest(logits[:texts], tokens[:texts])
