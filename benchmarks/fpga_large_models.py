"""An estimate of MatMul-free LM 370M, 1.3B and 2.7B on large FPGA cards, beside published results; `--write` draws
the plot.

No design of that size was synthesized. What is assumed:

* Arrays are `lut-ram` ones, at the look-up tables a multiply-accumulate that `array_costs.py` measured, memory
included, in 60 % of the card's look-up tables, at 200 MHz; UltraScale+ look-up tables count as those of 7 series.
* A trit is 5/3 of a bit, three to a table's entry number. Weights that do not fit on the chip come from the card's
memory once a token, at 80 % of its peak. What fits stays on the chip: 80 % of its block and ultra RAM.
* One text. The arrays are busy all the time: the elementwise stages and the latency between layers, a few thousand
cycles a layer at the small model's folding, are not counted, so the rates are upper bounds.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from html import escape
from pathlib import Path

from sterna.targets.verilog.arrays.costs import array_cost
from sterna.targets.verilog.devices import DEVICES

PLOT = Path(__file__).parents[1] / "docs" / "fpga-large-models.svg"
BITS_PER_TRIT = 5 / 3
CLOCK_HZ = 200e6
LUTS_FOR_ARRAYS = 0.6
OF_PEAK = 0.8
VOCABULARY = 32_000


@dataclass(frozen=True)
class Model:
    name: str
    hidden: int
    inner: int
    layers: int

    @property
    def trits(self) -> int:
        """Of i, f, g and o, of gate, up and down, and of the head (arXiv 2406.02528)."""
        return self.layers * (4 * self.hidden**2 + 3 * self.hidden * self.inner) + self.hidden * VOCABULARY


@dataclass(frozen=True)
class Card:
    name: str
    bytes_per_second: float
    on_chip_bits: float


MODELS = (Model("370M", 1024, 2816, 24), Model("1.3B", 2048, 5632, 24), Model("2.7B", 2560, 6912, 32))
MEGABIT = 1e6
CARDS = (
    Card("XCVU9P, four DDR4-2400", 76.8e9, 345.9 * MEGABIT),
    Card("the same with HBM2 at 460 GB/s", 460e9, 345.9 * MEGABIT),
)
PUBLISHED = (
    ("TerEffic, 370M on chip, several FPGAs (arXiv 2502.16473)", 16_300),
    ("TerEffic, 2.7B, one card with HBM (arXiv 2502.16473)", 727),
    ("TeLLMe v2, BitNet class, edge FPGA (arXiv 2510.15926)", 25),
    ("TeLLMe, the same on a KV260 (arXiv 2504.16266)", 9),
)


def products_per_cycle() -> float:
    cost = array_cost("lut-ram", 64, 64, "xcup")
    return LUTS_FOR_ARRAYS * DEVICES["xcvu9p"].resources.lut / ((cost.lut + cost.lut_memory) / 64**2)


def tokens_per_second(model: Model, card: Card) -> tuple[float, str]:
    """The rate, and what bounds it."""
    compute = products_per_cycle() * CLOCK_HZ / model.trits
    streamed = max(model.trits * BITS_PER_TRIT - OF_PEAK * card.on_chip_bits, 0) / 8
    memory = OF_PEAK * card.bytes_per_second / streamed if streamed else math.inf
    return (compute, "arrays") if compute <= memory else (memory, "memory")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help=f"draw {PLOT.name}")
    arguments = parser.parse_args()
    print(f"{products_per_cycle():.0f} multiply-accumulates a cycle")
    print("| model | trits | card | tokens/s | bound by |\n| --- | ---: | --- | ---: | --- |")
    bars: list[tuple[str, float, str]] = []
    for model in MODELS:
        for card in CARDS:
            rate, bound = tokens_per_second(model, card)
            print(f"| {model.name} | {model.trits / 1e6:.0f} M | {card.name} | {rate:.0f} | {bound} |")
            bars.append((f"estimate: {model.name}, {card.name}", rate, "#7fa8d6"))
    if arguments.write:
        bars += [(name, rate, "#d9a05b") for name, rate in PUBLISHED]
        PLOT.write_text(plot(bars), encoding="utf-8")


def plot(bars: list[tuple[str, float, str]]) -> str:
    """Bars on a logarithmic axis from 1 to 100,000 tokens a second."""
    left, width, step = 400, 460, 26
    height = 60 + step * len(bars)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 90}" height="{height}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
    ]
    for power in range(6):
        x = left + width * power / 5
        parts.append(f'<line x1="{x}" y1="24" x2="{x}" y2="{height - 20}" stroke="#ddd"/>')
        parts.append(f'<text x="{x}" y="18" text-anchor="middle">{10**power:,}</text>')
    for row, (name, rate, colour) in enumerate(bars):
        y, length = 32 + step * row, width * math.log10(max(rate, 1)) / 5
        parts.append(f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="{left}" y="{y}" width="{length:.0f}" height="17" fill="{colour}"/>')
        parts.append(f'<text x="{left + length + 5:.0f}" y="{y + 13}">{rate:,.0f}</text>')
    parts.append(f'<text x="{left}" y="{height - 4}">tokens/s, one text</text></svg>\n')
    return "\n".join(parts)


if __name__ == "__main__":
    main()
