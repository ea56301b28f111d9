"""Fuzzes the readers of others' bytes and the compiler for a while: `make fuzz BUDGET=600`.

Every target runs in a child process, with bounded memory, for its share of the time. The readers are guided by
coverage (atheris, libFuzzer), the compiler is given random programs (Hypothesis). What is found goes to
`build/fuzz/findings/TARGET`, one input and one traceback for each place that raised; the corpus stays in
`build/fuzz/corpus` for the next time, and `build/fuzz/totals.jsonl` says what ran. Exit code 1 if anything was found.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from tests.fuzz.findings import FOLDER, TOTALS


def main() -> int:
    from tests.fuzz.compiler import COMPILERS
    from tests.fuzz.targets import TARGETS

    names = [*TARGETS, *COMPILERS]
    parser = argparse.ArgumentParser("fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="for all targets together")
    parser.add_argument("targets", nargs="*", choices=[[], *names], help="all, if none is named")
    arguments = parser.parse_args()
    chosen: list[str] = arguments.targets or names
    share = max(arguments.seconds // len(chosen), 1)
    for name in chosen:
        before = totals()
        child = subprocess.run([sys.executable, "-m", "tests.fuzz.child", name, str(share)], check=False)
        runs = [run for run in totals()[len(before) :] if run["target"] == name]
        executions = sum(run["executions"] for run in runs)
        print(f"{name:16} {share:6} s {executions:9} executions", flush=True)
        if child.returncode:
            print(
                f"  the process ended with {child.returncode}: see {FOLDER / 'findings' / name}", flush=True
            )
    findings = sorted((FOLDER / "findings").glob("*/*.txt"))
    crashes = sorted((FOLDER / "findings").glob("*/*-*[0-9a-f]"))
    for path in (*findings, *crashes):
        print(f"found: {path}")
    return 1 if findings or crashes else 0


def totals() -> list[dict[str, object]]:
    return [json.loads(line) for line in TOTALS.read_text().splitlines()] if TOTALS.is_file() else []


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    sys.exit(main())
