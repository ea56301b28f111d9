"""Hypothesis: the same examples in every run, so that a failure is the change's own; `make explore` draws others.

No deadline, because first calls import and compile.
"""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=300, print_blob=True)
settings.load_profile("same")
