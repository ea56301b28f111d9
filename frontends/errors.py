"""What a frontend raises: one line that says where, what was found and what was expected."""


class FrontendError(Exception):
    """Input that a frontend cannot read; the message is one line, fit to be shown without a traceback."""


class ConfigError(FrontendError):
    """A model configuration with a missing, mistyped or inconsistent field."""

    def __init__(self, field: str, found: object, expected: str) -> None:
        self.field = field
        shown = repr(found)
        super().__init__(f"config field '{field}': expected {expected}, found {shown[:80]}")


class CheckpointError(FrontendError):
    """A checkpoint file that is malformed, or that does not hold what its configuration calls for."""


class TokenizerError(FrontendError):
    """A tokenizer that is absent, unreadable, or needs a library that is not installed."""
