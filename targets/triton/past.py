"""What the kernels of attention share: the sizes of an operation, and what its launches allocate."""

from __future__ import annotations

from dataclasses import dataclass

from xdsl.ir import SSAValue

from sterna.dialects.ternary import AttentionOp
from sterna.targets.triton.kernel import Builder, Host, Shape, number_text, place
from sterna.targets.triton.source import INDENT


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
        """Elements from a row of q to the next."""
        return row_of(self.op.q)

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
        return f"tl.minimum(tl.load({position}) + 1, {self.capacity}).to(tl.int32)"

    def scratch(self, name: str, shape: tuple[str | int, ...], depth: int) -> str:
        """Memory for floats between two launches; rows are padded."""
        name = self.host.names.new(name)
        sizes = ", ".join(map(str, shape))
        self.host.lines.append(f"{INDENT * depth}{name} = batch.empty(({sizes}), torch.float32)")
        return name


def row_of(value: SSAValue) -> int:
    row = Shape.of(value).row
    assert row is not None
    return row
