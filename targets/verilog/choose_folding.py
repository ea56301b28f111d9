"""Finds the interval for `fold-stages`: the slowest that reaches a goal, or the fastest that a budget allows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xdsl.dialects.builtin import ModuleOp

from sterna.dialects.errors import CompileError
from sterna.dialects.stream import PipelineOp, pipeline_of
from sterna.targets.verilog.devices import Device, Resources
from sterna.targets.verilog.estimate import Estimate, estimate

SAME_RATE = 0.99
"""A memory outside limits the rate from some interval on: what is faster inside by less than this is not faster."""


class DoesNotFit(CompileError):
    """A model that is too large for a budget at any interval."""


@dataclass(frozen=True)
class Goal:
    """What a design is to be."""

    device: Device
    budget: Resources
    clock_mhz: float
    tokens_per_second: float = 0.0
    """0 asks for as many as the budget gives."""
    sequences: int = 1
    """Texts that the pipeline works on at a time: with one, each token waits for the one before."""


def candidates(longest: int) -> list[int]:
    """Intervals to try, each about a quarter shorter than the one before."""
    intervals: list[int] = []
    value = longest
    while value >= 1:
        intervals.append(value)
        value = min(value - 1, value * 3 // 4)
    return intervals


def choose_interval(
    module: ModuleOp, goal: Goal, fold_and_buffer: Callable[[ModuleOp, int], PipelineOp], longest: int
) -> int:
    """The interval; CompileError in one line if the goal is out of reach, or nothing fits.

    A shorter interval takes more of the device and gives more tokens, so both searches halve the list.
    """
    intervals = candidates(longest)
    known: dict[int, Estimate] = {}

    def estimated(interval: int) -> Estimate:
        if interval not in known:
            copy = module.clone()
            known[interval] = estimate(copy, fold_and_buffer(copy, interval), goal.device.family)
        return known[interval]

    def fits(interval: int) -> bool:
        return estimated(interval).resources.exceeds(goal.budget) is None

    def rate(interval: int) -> float:
        return estimated(interval).tokens_per_second(goal.clock_mhz, goal.sequences)

    if not fits(intervals[0]):
        lacking = estimated(intervals[0]).resources.exceeds(goal.budget)
        raise DoesNotFit(
            f"the model does not fit {goal.device.name} with this budget: at its smallest it takes {lacking}"
        )
    fastest = intervals[_holding(intervals, fits) - 1]
    reached = intervals[: intervals.index(fastest) + 1]
    if not goal.tokens_per_second:
        if not estimated(fastest).memory_words:
            return fastest
        limit = SAME_RATE * rate(fastest)
        return reached[_holding(reached, lambda interval: rate(interval) < limit)]
    if rate(fastest) < goal.tokens_per_second:
        raise CompileError(
            f"{goal.tokens_per_second:g} tokens/s are out of reach: {goal.device.name} at {goal.clock_mhz:g} MHz "
            f"gives {rate(fastest):.0f} within the budget"
        )
    return reached[_holding(reached, lambda interval: rate(interval) < goal.tokens_per_second)]


def _holding(intervals: list[int], holds: Callable[[int], bool]) -> int:
    """For how many, from the first, it holds, where it holds for none after one for which it does not; by halving."""
    low, high = 0, len(intervals)
    while low < high:
        middle = (low + high) // 2
        if holds(intervals[middle]):
            low = middle + 1
        else:
            high = middle
    return low


def require_pipeline(module: ModuleOp, name: str) -> PipelineOp:
    if (pipeline := pipeline_of(list(module.ops))) is None:
        raise CompileError(f"{name}: there is no stream.pipeline: run convert-fixed-to-stream first")
    return pipeline
