"""Bugs in the kernels of attention, on CPUs and GPUs."""

from __future__ import annotations

from tests.mutation.mutant import Mutant

ATTENTION = ("tests/property/test_attention.py",)
GPU_TEXTS = ("tests/property/test_gpu_texts.py",)

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "targets/cpu/attention.py",
        "rows = self.op.block.value.data",
        "rows = 1 << 20",
        "attention: one sum over all of the past",
        ATTENTION,
    ),
    Mutant(
        "targets/triton/attention_blocks.py",
        "blocks = (count + {past.block - 1}) // {past.block}",
        "blocks = count // {past.block}",
        "attention on a GPU, few rows: a block that is not full is left out",
        ATTENTION,
    ),
    Mutant(
        "targets/triton/prelude.py",
        "== count - 1",
        "== 0",
        "attention on a GPU, few rows: the first program to arrive adds the blocks",
        ATTENTION,
    ),
    Mutant(
        "targets/triton/attention_blocks.py",
        "tl.maximum(p - t % {length}, first)",
        "tl.maximum(p, first)",
        "attention on a GPU, few rows: rows of the call before a row are not written for it",
        GPU_TEXTS,
    ),
    Mutant(
        "targets/triton/attention_blocks.py",
        'f"    tl.store({self.counter(arrived)} + tl.arange(0, {self.counters}), 0)"',
        '"    pass"',
        "attention on a GPU, few rows: programs count on from what was there",
        GPU_TEXTS,
    ),
    Mutant(
        "targets/triton/attention_tiles.py",
        'return f" + {self.first}" if self.first else ""',
        'return ""',
        "attention on a GPU, many rows: every piece of a wide head is the first",
        ATTENTION,
    ),
    Mutant(
        "targets/triton/sums.py",
        "total += tl.where(k < reach, product, 0.0) if PARTLY else product",
        "total += product",
        "attention on a GPU, many rows: what a row does not see is multiplied by zero",
        ATTENTION,
    ),
)
