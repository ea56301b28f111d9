"""What the kernels of attention share: the sizes of an operation, where its operands lie, what its launches allocate.

Queries and keys are mostly turned by their positions first. No launch of its own does that, where attention alone reads
what it gives (`rotation_of`): the kernel that reads queries turns them, and the one that writes keys.
"""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.ir import SSAValue

from sterna.dialects.ternary import AttentionOp, RotateOp
from sterna.targets.triton.kernel import Builder, Host, Shape, number_text, place
from sterna.targets.triton.source import INDENT, call


@dataclass(frozen=True)
class Past:
    """An attention over the rows so far, and the function that launches it."""

    op: AttentionOp
    host: Host

    @property
    def heads(self) -> int:
        return self.op.heads.value.data

    @property
    def kv_heads(self) -> int:
        return self.op.kv_heads.value.data

    @property
    def sharing(self) -> int:
        """Heads of queries for one of keys."""
        return self.heads // self.kv_heads

    @property
    def columns(self) -> int:
        """Of a head."""
        return self.op.head_columns

    @property
    def capacity(self) -> int:
        return self.op.capacity

    @property
    def block(self) -> int:
        """Rows of the cache over which one sum goes."""
        return self.op.block.value.data

    @property
    def row(self) -> int:
        """Elements from a row of q, and of y, to the next."""
        return row_of(self.op.q)

    @property
    def q_rotation(self) -> RotateOp | None:
        return rotation_of(self.op.q)

    @property
    def k_rotation(self) -> RotateOp | None:
        return rotation_of(self.op.k)

    @property
    def cache_row(self) -> int:
        return row_of(self.op.keys)

    @property
    def scale(self) -> str:
        return number_text(self.op.scale.value.data)

    @property
    def static_rows(self) -> int | None:
        """Of a call; None where only the call knows."""
        return Shape.of(self.op.q).sizes[0]

    @property
    def rows(self) -> str:
        return "batch.rows" if self.static_rows is None else str(self.static_rows)

    @property
    def length(self) -> str:
        """Rows of a text."""
        return "batch.length" if self.static_rows is None else str(self.static_rows)

    @property
    def texts(self) -> str:
        return "batch.texts" if self.static_rows is None else "1"

    def builder(self, stem: str) -> Builder:
        b = Builder(stem, self.host)
        b.doc += [place(self.op)]
        return b

    def count(self, position: str) -> str:
        """Rows that the row at a position sees. Outside is an error of the caller; what is there is not read."""
        return f"tl.minimum({position} + 1, {self.capacity}).to(tl.int32)"

    def scratch(
        self, name: str, shape: tuple[str | int, ...], depth: int, dtype: str = "torch.float32"
    ) -> str:
        """Memory between two launches; rows are padded."""
        name = self.host.names.new(name)
        sizes = ", ".join(map(str, shape))
        self.host.lines.append(f"{INDENT * depth}{name} = batch.empty(({sizes}), {dtype})")
        return name

    def scratch_for_q(self, depth: int) -> str | None:
        """Memory for what the first launch turns, if it does."""
        shape = self.rows, self.heads * self.columns
        return None if self.q_rotation is None else self.scratch("turned_q", shape, depth)

    def cache_written(
        self, b: Builder, keys: str, values: str, *, head: str, row: str, wanted: str, depth: int
    ) -> list[str]:
        """What writes the key and the value of rows `[N, 1]` of the call, one head of them, to `at` in the caches."""
        of_keys = (self.op.k, "k", self.k_rotation, keys)
        of_values = (self.op.v, "v", None, values)
        return [
            line
            for value, name, rotation, cache in (of_keys, of_values)
            for line in self.heads_written(
                b,
                value,
                name,
                rotation=rotation,
                out=f"{cache} + at",
                head=head,
                row=row,
                wanted=wanted,
                depth=depth,
            )
        ]

    def heads_written(
        self,
        b: Builder,
        value: SSAValue,
        name: str,
        *,
        rotation: RotateOp | None,
        out: str,
        head: str,
        row: str,
        wanted: str,
        depth: int,
    ) -> list[str]:
        """What writes a head of rows `[N, 1]` of the call to so many addresses, turned if it is to be."""
        x = b.pointer(value if rotation is None else rotation.x, name, self.op)
        at = f"{x} + {row} * {row_of(value)} + {head} * {self.columns}", out
        if rotation is None:
            b.helpers.add("copy_heads")
            return call("copy_heads", [*at, wanted, str(self.columns)], depth=depth)
        b.helpers.add("turn_heads")
        return call(
            "turn_heads", [*at, *self.angles(b, rotation, row), wanted, str(self.columns)], depth=depth
        )

    def angles(self, b: Builder, rotation: RotateOp, row: str) -> tuple[str, str]:
        """Where the cosines and sines of rows of the call lie."""
        step = row_of(rotation.cos)
        cos, sin = b.pointer(rotation.cos, "cos", self.op), b.pointer(rotation.sin, "sin", self.op)
        return f"{cos} + {row} * {step}", f"{sin} + {row} * {step}"


def rotation_of(value: SSAValue) -> RotateOp | None:
    """What turns queries or keys, if attention alone reads what it gives, and their heads are its heads."""
    turn, uses = value.owner, list(value.uses)
    if not isinstance(turn, RotateOp) or len(uses) != 1:
        return None
    reader = uses[0].operation
    if (
        not isinstance(reader, AttentionOp)
        or value not in (reader.q, reader.k)
        or reader.parent is not turn.parent
    ):
        return None
    return turn if 2 * turn.half == reader.head_columns else None


def row_of(value: SSAValue) -> int:
    row = Shape.of(value).row
    assert row is not None
    return row
