"""Options that a target declares: the command line offers those of the target that it compiles for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sterna.dialects.errors import CompileError


@dataclass(frozen=True)
class TargetOption:
    """`--name VALUE` of `sterna compile --target T`; a keyword of `configured`."""

    name: str
    metavar: str
    help: str
    default: str = ""


def option_values(target: str, declared: Sequence[TargetOption], given: Mapping[str, str]) -> dict[str, str]:
    """A value for each declared option; CompileError for one that the target does not have."""
    known = {option.name: option.default for option in declared}
    if unknown := next((name for name in given if name not in known), None):
        has = f"it has {', '.join(f'--{name}' for name in known)}" if known else "it has none"
        raise CompileError(f"target '{target}' has no option --{unknown}: {has}")
    return {**known, **given}


ENCODING = TargetOption(
    "encoding",
    "FORMAT",
    "How weights are packed: i2, 2 bits each, or b3, 1.6 bits: less memory to read, more work to unpack.",
    "i2",
)
"""Of targets whose kernels read packed trits."""


def encoding_option(values: Mapping[str, str]) -> str:
    """The value of `ENCODING`; CompileError for a wrong one."""
    from sterna.dialects.encodings import EncodingAttr

    return one_of(ENCODING, values, EncodingAttr.FORMATS)


def one_of(option: TargetOption, values: Mapping[str, str], known: Collection[str]) -> str:
    """The value of an option that has so many; CompileError for another."""
    if (value := values[option.name]) not in known:
        raise CompileError(f"--{option.name} {value}: expected one of {', '.join(known)}")
    return value


def pipeline_text(passes: Sequence[str], options: Mapping[str, str]) -> str:
    """Passes as xDSL writes a pipeline, `options` being those of some of them."""
    return ",".join(f"{name}{{{options[name]}}}" if name in options else name for name in passes)
