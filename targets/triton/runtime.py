# pyright: basic, reportAttributeAccessIssue=false
"""The host's part of emitted files, which `emitter.py` copies as it stands here: memory, launches, tuning.

Nothing but torch and triton is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import triton
import triton.language as tl

INTERPRETED = triton.knobs.runtime.interpret
"""Is this Triton's interpreter, on the CPU? (TRITON_INTERPRET=1 when triton was imported)"""

CUDA = not INTERPRETED and torch.version.hip is None

PTX = tl.constexpr(CUDA)
"""Are there the instructions of CUDA's devices, four bytes at a time?"""

OVERLAP = tl.constexpr(CUDA and torch.cuda.is_available() and torch.cuda.get_device_capability() >= (9, 0))
"""May a kernel start while the one before it runs (programmatic dependent launch)? See `take_turn`."""

EXACT = {"enable_fp_fusion": False, **({"launch_pdl": True} if OVERLAP else {})}
"""For every launch: a product and a sum stay two roundings."""


def registers(most: int) -> dict[str, int]:
    """For a launch: so many of a thread. Left alone the assembler spills some, to run more programs side by side."""
    return {"maxnreg": most} if CUDA else {}


def let_integers_wrap() -> None:
    """In Triton's interpreter as on a device: it checks every sum, though some of ours wrap on purpose."""
    from triton.runtime.interpreter import interpreter_builder

    interpreter_builder.options = replace(interpreter_builder.options, sanitize_overflow=False)


if INTERPRETED:
    let_integers_wrap()


@dataclass(frozen=True)
class Batch:
    """A call of `texts` texts of `length` tokens: row n of an activation is token n % length of text n // length."""

    texts: int
    length: int
    device: torch.device
    in_place: bool = False
    """Do the states that follow take the place of those that were given, which lie on the device as `empty` has it?"""

    @property
    def rows(self) -> int:
        return self.texts * self.length

    @property
    def alone(self) -> bool:
        """Is it a single row, which the products that read it compute themselves?"""
        return ROWS_INSIDE and self.rows == 1

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Memory for a tensor whose rows are padded: 256 elements of int8, 16 of others."""
        if not shape:
            return torch.empty(shape, dtype=dtype, device=self.device)
        multiple = 256 if dtype == torch.int8 else 16
        padded = (*shape[:-1], -(-shape[-1] // multiple) * multiple)
        return torch.empty(padded, dtype=dtype, device=self.device)[..., : shape[-1]]

    def place(self, value: torch.Tensor) -> torch.Tensor:
        """An input where kernels expect it: on the device, its rows padded; itself if it lies so."""
        shape = tuple(value.shape)
        # On the device that holds nothing: a cache is large, and mostly lies as it is to.
        meant = replace(self, device=torch.device("meta")).empty(shape, value.dtype)
        lies_so = value.device == self.device and value.stride() == meant.stride()
        if lies_so and room(value) >= room(meant):
            return value
        return self.empty(shape, value.dtype).copy_(value)

    def cache(self, given: torch.Tensor, only_reader: bool) -> torch.Tensor:
        """Memory for the cache that follows the given one, and holds what that does."""
        return (
            given
            if self.in_place and only_reader
            else self.empty(tuple(given.shape), given.dtype).copy_(given)
        )

    def state(self, given: torch.Tensor, columns: int) -> torch.Tensor:
        """Memory `[texts, columns]` for the state that follows the given one."""
        return given if self.in_place else self.empty((self.texts, columns), given.dtype)


def room(value: torch.Tensor) -> int:
    """Bytes from the first element to the end of the memory. A single row may lie as a padded one, and end early."""
    return value.untyped_storage().nbytes() - int(value.storage_offset()) * value.element_size()


ROWS_INSIDE = True
"""Does a product compute the norm of a call's only row itself, in every program, not after a launch of its own?"""

AHEAD = 4 if INTERPRETED else 32
"""Tokens whose gates and inputs the recurrence of a prompt asks for at once."""

FEW_ROWS = 4
"""Rows of a call up to which words of packed trits are multiplied one row at a time; more go to the tensor cores."""

FEW = [
    triton.Config({"CHANNELS": channels, "TILES": tiles, "SPLIT": split}, num_warps=warps)
    for channels, tiles, split, warps in (
        (4, 4, 1, 2),
        (4, 8, 1, 4),
        (8, 4, 1, 4),
        (8, 8, 1, 4),
        (16, 2, 1, 4),
        (16, 4, 1, 4),
        (32, 2, 1, 4),
        (16, 4, 1, 8),
        (32, 2, 1, 8),
        (8, 4, 2, 4),
        (16, 4, 2, 4),
        (16, 4, 4, 4),
    )
]
"""What the kernels of products for few rows are tuned over. SPLIT programs share the columns of a row."""

MANY = [
    (triton.Config({"CHANNELS": channels, "ROWS": rows}, num_warps=warps, num_stages=3), products)
    for channels, rows, warps, products in (
        (64, 16, 4, 12),
        (64, 32, 4, 6),
        (64, 64, 4, 3),
        (128, 64, 8, 3),
        (256, 64, 8, 1),
        (128, 128, 8, 2),
    )
]
"""And for many, each with the most products whose sums fit in registers. Larger blocks read less for the same work."""


def time_of(call, quantiles):
    """What tuning measures a configuration by: a fifth of Triton's own time for it."""
    return triton.testing.do_bench(call, warmup=5, rep=20, quantiles=quantiles)


class Product:
    """A kernel of products whose blocks are tuned on the device; what was found is kept on disk, for device and kernel.

    Calling it launches it for `rows` rows: tuned for their number if they are few, and for its order of magnitude.
    Launches on one device follow each other: those that split columns share memory. What `restored` points to, which
    a launch may both read and write, is after tuning as it was.
    """

    def __init__(self, kernel, m: int, sums: int, restored: str | None) -> None:
        few, many = FEW, [config for config, products in MANY if sums <= products] or [MANY[0][0]]
        if INTERPRETED:  # nothing to measure: the fewest programs are the fastest
            few = [triton.Config({"CHANNELS": 256, "TILES": 4, "SPLIT": 1})]
            many = [triton.Config({"CHANNELS": 256, "ROWS": 64})]
        self.m, self.kernel, self.sums = m, kernel, sums
        restore = [restored] if restored else None
        options = {"do_bench": time_of, "cache_results": True, "restore_value": restore}
        self.few = triton.autotune(few, key=["ROWS"], **options)(kernel)
        self.many = triton.autotune(many, key=["many_as"], **options)(kernel)
        self.shared: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

    def __call__(self, rows: int, *arguments, **switches: bool) -> None:
        def grid(meta):
            return triton.cdiv(self.m, meta["CHANNELS"]), triton.cdiv(rows, meta["ROWS"]), meta["SPLIT"]

        nearest = triton.next_power_of_2(max(rows, 1))
        given = (*arguments, *self.memory(arguments[0].device), rows, nearest)
        if rows <= FEW_ROWS:
            self.few[grid](*given, ROWS=nearest, MANY=False, **switches, **EXACT)
        else:
            self.many[grid](*given, TILES=1, SPLIT=1, MANY=True, **switches, **EXACT)

    def memory(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums of programs that share columns, and how many have arrived: zeros, before and after every launch."""
        if device not in self.shared:
            self.shared[device] = (
                torch.zeros(self.sums * FEW_ROWS * self.m, dtype=torch.int32, device=device),
                torch.zeros(self.m, dtype=torch.int32, device=device),
            )
        return self.shared[device]


def tuned_product(m: int, sums: int, restored: str | None = None):
    """Of a kernel with `m` channels of so many products."""
    return lambda kernel: Product(kernel, m, sums, restored)


def load_weights(packed: torch.Tensor, device: torch.device) -> dict[str, torch.Tensor]:
    """Every weight, from the packed bytes `[N]` uint8, wherever those are: on the device.

    But tables that stay in the host's memory are pinned there: kernels can read it over the bus.
    """
    weights: dict[str, torch.Tensor] = {}
    for name, (offset, size, dtype) in WEIGHTS.items():
        weight = packed[offset : offset + size].view(dtype)
        if TABLES_ON_HOST and name in TABLES and device.type == "cuda":
            weights[name] = weight.cpu().pin_memory()
        else:
            weights[name] = weight.to(device)
    return weights


WEIGHTS: dict[str, tuple[int, int, torch.dtype]] = {}
"""Offset and bytes in the packed weights, and the elements, of every weight."""

TABLES: list[str] = []
"""Those of which a token reads one row."""

TABLES_ON_HOST = False
"""Do they stay in the host's memory?"""
