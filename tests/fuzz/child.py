"""One fuzz target for so many seconds, in a process of its own: `python -m tests.fuzz.child TARGET SECONDS`."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

from tests.fuzz.findings import FOLDER, Findings, limit_memory

ADDRESS_SPACE = 8 << 30
"""Libraries map far more than they use; `-rss_limit_mb` bounds what is used."""

SECONDS_TO_SHRINK = 900
"""What compiles for every instruction set takes seconds, and shrinking compiles many times."""


def fuzz_readers(name: str, seconds: int) -> None:
    """Coverage-guided; three of four inputs are changed by whole tokens or fields, one as libFuzzer does."""
    import atheris

    with atheris.instrument_imports(include=["sterna", "xdsl.parser", "xdsl.utils", "xdsl.irdl"]):
        from tests.fuzz.targets import MEMORY_BYTES, SECONDS, TARGETS

    target = TARGETS[name]
    corpus = FOLDER / "corpus" / name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (corpus / f"seed-{number}").write_bytes(seed)
    findings = Findings(name, SECONDS)
    findings.folder.mkdir(parents=True, exist_ok=True)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        if target.mutate is not None and seed % 4:
            return target.mutate(data, seed)[:max_size]
        return atheris.Mutate(data, max_size)

    def run(data: bytes) -> None:
        findings.try_input(target, data)

    atheris.Setup(
        [
            "fuzz",
            str(corpus),
            f"-max_total_time={seconds}",
            f"-rss_limit_mb={MEMORY_BYTES >> 20}",
            f"-timeout={60 * SECONDS}",
            "-max_len=65536",
            "-len_control=0",
            "-reload=0",
            "-report_slow_units=1000000",
            "-verbosity=0",
            f"-artifact_prefix={findings.folder}/",
        ],
        run,
        custom_mutator=lambda data, size, seed: mutate(data, size, seed),
    )
    atheris.Fuzz()


def fuzz_compiler(name: str, seconds: int) -> None:
    from tests.fuzz.compiler import fuzz

    findings = Findings(name, SECONDS_TO_SHRINK)
    generator = random.Random(time.time_ns())
    end = time.monotonic() + seconds
    programs = 0

    def counted() -> None:
        nonlocal programs
        programs += 1

    while time.monotonic() < end:
        data = generator.randbytes(8)
        findings.try_input(lambda number: fuzz(name, int.from_bytes(number, "little"), counted), data)
        findings.executions = programs
    findings.report()


def main() -> None:
    name, seconds = sys.argv[1], int(sys.argv[2])
    sys.path.insert(0, str(Path.cwd()))
    limit_memory(ADDRESS_SPACE)
    if name.startswith("compiler-"):
        fuzz_compiler(name, seconds)
    else:
        fuzz_readers(name, seconds)


if __name__ == "__main__":
    main()
