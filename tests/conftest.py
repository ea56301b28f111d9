"""Hypothesis: the same examples in every run, so that a failure is the change's own; `make explore` draws others.

`make mutants` does not shrink what it finds. No deadline, because first calls import and compile.
"""

from __future__ import annotations

from hypothesis import Phase, settings

settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, max_examples=300, print_blob=True)
settings.register_profile("mutants", deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))
settings.load_profile("same")
