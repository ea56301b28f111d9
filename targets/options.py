"""Options that a target declares: the command line offers those of the target that it compiles for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def encoding_option(target: str, given: Mapping[str, str]) -> str:
    """What a target with no other option than `ENCODING` is given for it; CompileError for a wrong value."""
    from sterna.dialects.encodings import EncodingAttr

    encoding = option_values(target, (ENCODING,), given)[ENCODING.name]
    if encoding not in EncodingAttr.FORMATS:
        known = ", ".join(EncodingAttr.FORMATS)
        raise CompileError(f"--{ENCODING.name} {encoding}: expected one of {known}")
    return encoding


def pipeline_text(passes: Sequence[str], options: Mapping[str, str]) -> str:
    """Passes as xDSL writes a pipeline, `options` being those of some of them."""
    return ",".join(f"{name}{{{options[name]}}}" if name in options else name for name in passes)
