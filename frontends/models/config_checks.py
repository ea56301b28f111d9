"""What the fields of a model's configuration may be: checked one by one, so that each error names its field."""

from __future__ import annotations

from sterna.frontends.errors import ConfigError

# Far above any published model; a configuration beyond them is a mistake or an attack.
LARGEST_SIZE = 1 << 20
LARGEST_DEPTH = 1 << 12


def check_integer(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ConfigError(name, value, f"an integer from {low} to {high}")


def check_fraction(name: str, value: object) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1:
        raise ConfigError(name, value, "a number between 0 and 1")


def check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigError(name, value, "true or false")
