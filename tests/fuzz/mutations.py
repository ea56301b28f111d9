"""Changes to valid files that keep most of their grammar: tokens are dropped, doubled, swapped and made extreme."""

from __future__ import annotations

import random
import re

TOKEN = re.compile(rb"\w+|\s+|.", re.DOTALL)

NASTY = (
    b"0", b"-1", b"1", b"2147483647", b"-2147483648", b"9223372036854775807", b"9223372036854775808",
    b"18446744073709551616", b"1" + b"0" * 30, b"1e400", b"-0.0", b"nan", b"NaN", b"Infinity", b"null", b"true",
    b'""', b'"', b"\\", b"\\ud800", b"\x00", b"\xff", b"[]", b"{}", b"[" * 2000, b"{" * 2000, b"(" * 2000, b"?",
    b"\xe2\x80\xae", b"../../etc/passwd", b"//", b"loc(", b"dense<", b"%0", b"^bb0", b"@forward",
)  # fmt: skip
"""Numbers at the ends of their types, quotes that do not close, depth, bytes that are no text."""


def mutate_tokens(data: bytes, seed: int, words: tuple[bytes, ...] = NASTY) -> bytes:
    """`data` with one to six changes of whole tokens, the same for the same seed."""
    generator = random.Random(seed)
    tokens = TOKEN.findall(data)
    for _ in range(generator.choice((1, 1, 1, 2, 3, 6))):
        at = generator.randrange(len(tokens) + 1)
        other = generator.randrange(len(tokens) + 1)
        length = generator.choice((1, 1, 2, 5, 20))
        match generator.randrange(6):
            case 0:
                del tokens[at : at + length]
            case 1:
                tokens[at:at] = tokens[other : other + length]
            case 2:
                tokens[at : at + length] = tokens[other : other + length]
            case 3:
                tokens[at : at + 1] = [generator.choice(words)]
            case 4:
                tokens[at:at] = [generator.choice(words)]
            case _:
                numbers = [n for n, token in enumerate(tokens) if token.isdigit()]
                if numbers:
                    tokens[generator.choice(numbers)] = generator.choice(NASTY[:8])
    return b"".join(tokens)
