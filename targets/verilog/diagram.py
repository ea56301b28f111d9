"""The block diagram of a pipeline, as SVG: stages from top to bottom in the order in which beats reach them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from html import escape

from xdsl.ir import Operation, SSAValue

from sterna.dialects.stream import (
    ArgmaxOp,
    ArrayOp,
    FifoOp,
    ForkOp,
    LanesOp,
    LookupOp,
    MapOp,
    PipelineOp,
    ReduceOp,
    ScanOp,
    YieldOp,
    stage_name,
)
from sterna.dialects.stream_types import RowsType, rows_type

BOX = (230, 40)
GAP = (26, 34)
MARGIN = 24
COLOURS: dict[type[Operation], str] = {
    ArrayOp: "#fde2c4",
    MapOp: "#dbe9f8",
    ReduceOp: "#e5dff2",
    ScanOp: "#d9efd8",
    LookupOp: "#f6dde4",
    ArgmaxOp: "#f6dde4",
}
NAMES = {
    ArrayOp: "dot products", MapOp: "elementwise", ReduceOp: "reduction", ScanOp: "recurrence", LookupOp: "look-up",
    ArgmaxOp: "argmax",
}  # fmt: skip
WIRING = (FifoOp, ForkOp, LanesOp)


@dataclass(frozen=True)
class Place:
    x: float
    y: float


def draw(pipeline: PipelineOp, title: str) -> str:
    stages = [op for op in pipeline.body.block.ops if not isinstance(op, (*WIRING, YieldOp))]
    sources = {op: [_source(value) for value in op.operands] for op in stages}
    places, width, height = _layout(stages, sources)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">',
        '<defs><marker id="end" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 L8 4 L0 8 z" fill="#667"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="{MARGIN}" y="{MARGIN}" font-size="16" font-weight="bold">{escape(title)}</text>',
        *_legend(width),
    ]
    for op in stages:
        for value, (maker, depth) in zip(op.operands, sources[op], strict=True):
            if maker is not None:
                parts.append(_edge(places[maker], places[op], rows_type(value), depth))
    parts += [_box(op, places[op]) for op in stages]
    return "\n".join([*parts, "</svg>", ""])


def _source(value: SSAValue) -> tuple[Operation | None, int]:
    """The stage that makes a stream, through queues, forks and changes of lanes, and the beats that the way holds."""
    depth = 0
    while isinstance(op := value.owner, WIRING):
        depth += op.depth.value.data if isinstance(op, FifoOp) else 0
        value = op.operands[0]
    return (op, depth) if isinstance(op, Operation) else (None, depth)


def _layout(
    stages: list[Operation], sources: dict[Operation, list[tuple[Operation | None, int]]]
) -> tuple[dict[Operation, Place], int, int]:
    """A row of boxes for each distance from the input."""
    level: dict[Operation, int] = {}
    rows: dict[int, list[Operation]] = defaultdict(list)
    for op in stages:
        level[op] = 1 + max((level[maker] for maker, _ in sources[op] if maker is not None), default=-1)
        rows[level[op]].append(op)
    widest = max(len(row) for row in rows.values())
    width = 2 * MARGIN + widest * BOX[0] + (widest - 1) * GAP[0]
    places: dict[Operation, Place] = {}
    for number, row in rows.items():
        left = (width - len(row) * BOX[0] - (len(row) - 1) * GAP[0]) / 2
        for column, op in enumerate(row):
            places[op] = Place(left + column * (BOX[0] + GAP[0]), 60 + number * (BOX[1] + GAP[1]))
    return places, width, 60 + len(rows) * (BOX[1] + GAP[1]) + MARGIN


def _legend(width: int) -> list[str]:
    parts: list[str] = []
    for number, (kind, name) in enumerate(NAMES.items()):
        x = MARGIN + number * (width - 2 * MARGIN) / len(NAMES)
        parts.append(f'<rect x="{x:.0f}" y="34" width="11" height="11" fill="{COLOURS[kind]}" stroke="#667"/>')
        parts.append(f'<text x="{x + 16:.0f}" y="43">{name}</text>')
    return parts


def _edge(start: Place, end: Place, rows: RowsType, depth: int) -> str:
    x0, y0 = start.x + BOX[0] / 2, start.y + BOX[1]
    x1, y1 = end.x + BOX[0] / 2, end.y
    # What passes several rows by is thin, so that the way of the data stands out.
    long = y1 - y0 > BOX[1] + 2 * GAP[1]
    bend = max((y1 - y0) / 2, 12)
    title = f"{rows.size.data} x i{rows.width}, {rows.lanes.data} a cycle, queue of {depth}"
    return (
        f'<path d="M{x0:.0f} {y0:.0f} C{x0:.0f} {y0 + bend:.0f} {x1:.0f} {y1 - bend:.0f} {x1:.0f} {y1:.0f}" fill="none" '
        f'stroke="{"#aab" if long else "#667"}" marker-end="url(#end)"><title>{escape(title)}</title></path>'
    )


def _box(op: Operation, place: Place) -> str:
    detail = _detail(op)
    return (
        f'<rect x="{place.x:.0f}" y="{place.y:.0f}" width="{BOX[0]}" height="{BOX[1]}" rx="4" fill="{COLOURS[type(op)]}" '
        f'stroke="#667"/><text x="{place.x + 8:.0f}" y="{place.y + 16:.0f}" font-weight="bold">{escape(stage_name(op))}'
        f'</text><text x="{place.x + 8:.0f}" y="{place.y + 31:.0f}" fill="#445">{escape(detail)}</text>'
    )


def _detail(op: Operation) -> str:
    result = rows_type(op.results[0])
    match op:
        case ArrayOp():
            x = rows_type(op.x)
            return f"{result.size.data} x {x.size.data}, PE {result.lanes.data}, SIMD {x.lanes.data}, {op.design.data}"
        case ReduceOp():
            return f"{op.kind.data} of {rows_type(op.x).size.data}, {rows_type(op.x).lanes.data} a cycle"
        case _:
            return f"{result.size.data} x i{result.width}, {result.lanes.data} a cycle"
