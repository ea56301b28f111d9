"""Plants realistic bugs, one at a time, and shows which our tests catch: `make mutants`.

Each bug (`table.py`) is one text in one file exchanged for another, in a copy of the tree that imports its own code;
the tests that should notice run until the first fails. Results go to `build/mutants/results.json` as they come, so that
a run can be broken off; `--again` runs what survived or was not run, `--write` puts the table into
docs/verification.md. Exit code 1 if a mutant survives that is not explained.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

from tests.mutation.mutant import Mutant
from tests.mutation.report import (
    Result,
    key,
    read_results,
    summary,
    table,
    verdict,
    write_results,
    write_table,
)
from tests.mutation.table import MUTANTS
from tests.mutation.tree import Tree

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "build/mutants/results.json"
DOCUMENT = ROOT / "docs/verification.md"


def main() -> int:
    parser = argparse.ArgumentParser(
        "mutation", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="", help="mutants whose file or description has this text")
    parser.add_argument("--again", action="store_true", help="only those that no test killed so far")
    parser.add_argument(
        "--shuffle", type=int, metavar="SEED", help="in random order: what ran so far is a sample"
    )
    parser.add_argument("--workers", type=int, default=1, help="copies of the tree that run at once")
    parser.add_argument("--seconds", type=int, default=300, help="a mutant that runs longer counts as caught")
    parser.add_argument("--no-baseline", action="store_true", help="the tests are known to pass without bugs")
    parser.add_argument("--write", action="store_true", help="write the table into docs/verification.md")
    arguments = parser.parse_args()
    results = read_results(RESULTS)
    chosen = [mutant for mutant in MUTANTS if arguments.only in key(mutant)]
    if arguments.again:
        chosen = [
            m for m in chosen if verdict(m, results.get(key(m))) in ("survived", "equivalent", "not run")
        ]
    if arguments.shuffle is not None:
        random.Random(arguments.shuffle).shuffle(chosen)
    run(
        chosen,
        results,
        arguments.workers,
        arguments.seconds,
        RESULTS,
        with_baseline=not arguments.no_baseline,
    )
    print(summary(MUTANTS, results))
    if arguments.write:
        write_table(DOCUMENT, table(MUTANTS, results))
    return int(any(verdict(m, results.get(key(m))) == "survived" for m in chosen))


def run(
    mutants: Sequence[Mutant],
    results: dict[str, Result],
    workers: int,
    seconds: int,
    path: Path,
    *,
    with_baseline: bool,
) -> None:
    """Adds the mutants' results; RuntimeError if a test fails without any bug."""
    with tempfile.TemporaryDirectory(prefix="sterna-mutants-") as folder:
        trees: Queue[Tree] = Queue()
        for n in range(workers):
            trees.put(Tree.copy_of(ROOT, Path(folder) / str(n)))
        if with_baseline:
            check_baseline(trees, mutants, workers, seconds)

        def run_one(mutant: Mutant) -> tuple[Mutant, Result]:
            tree = trees.get()
            try:
                outcome = tree.run_with(mutant, seconds)
            finally:
                trees.put(tree)
            return mutant, Result(not outcome.passed, outcome.first, round(outcome.seconds, 1))

        with ThreadPoolExecutor(workers) as pool:
            for mutant, result in pool.map(run_one, mutants):
                results[key(mutant)] = result
                write_results(path, results)
                print(
                    f"{verdict(mutant, result):10} {result.seconds:6.1f} s  {key(mutant)}  {result.by}",
                    flush=True,
                )


def check_baseline(trees: Queue[Tree], mutants: Sequence[Mutant], workers: int, seconds: int) -> None:
    """Every test file that is to catch something passes without a bug."""
    files = list(dict.fromkeys(test for mutant in mutants for test in mutant.tests))

    def run_file(file: str) -> None:
        tree = trees.get()
        try:
            outcome = tree.run([file], seconds)
        finally:
            trees.put(tree)
        print(
            f"{'passed' if outcome.passed else 'FAILED':10} {outcome.seconds:6.1f} s  {file} without a bug",
            flush=True,
        )
        if not outcome.passed:
            raise RuntimeError(f"{file} fails without any bug: {outcome.first}")

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(run_file, files))


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    sys.exit(main())
