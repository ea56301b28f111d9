"""What became of the mutants: kept as JSON, shown as a table in docs/verification.md."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.mutation.mutant import Mutant

BEGIN, END = "<!-- mutants: begin -->\n", "<!-- mutants: end -->"


@dataclass(frozen=True)
class Result:
    """Of one mutant."""

    killed: bool
    by: str
    seconds: float


Results = Mapping[str, Result]


def key(mutant: Mutant) -> str:
    return f"{mutant.file}: {mutant.what}"


def read_results(path: Path) -> dict[str, Result]:
    if not path.is_file():
        return {}
    return {name: Result(**value) for name, value in json.loads(path.read_text()).items()}


def write_results(path: Path, results: Results) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(
        json.dumps({name: asdict(result) for name, result in results.items()}, indent=1) + "\n"
    )
    temporary.replace(path)


def verdict(mutant: Mutant, result: Result | None) -> str:
    if result is None:
        return "not run"
    if result.killed:
        return "killed"
    return "equivalent" if mutant.equivalent else "survived"


def summary(mutants: Sequence[Mutant], results: Results) -> str:
    verdicts = [verdict(mutant, results.get(key(mutant))) for mutant in mutants]
    counts = {word: verdicts.count(word) for word in ("killed", "equivalent", "survived", "not run")}
    return f"{len(mutants)} mutants: " + ", ".join(f"{n} {word}" for word, n in counts.items() if n)


def table(mutants: Sequence[Mutant], results: Results) -> str:
    """Markdown: a line for each mutant, then why the equivalent ones are."""
    lines = [f"{summary(mutants, results)}.", "", "| file | bug | verdict | first test that failed |"]
    lines.append("| --- | --- | --- | --- |")
    for mutant in mutants:
        result = results.get(key(mutant))
        by = f"`{result.by.split('/')[-1]}`" if result is not None and result.killed else ""
        cells = (f"`{mutant.file}`", mutant.what, verdict(mutant, result), by.replace("|", "\\|"))
        lines.append("| " + " | ".join(cells) + " |")
    explained = [m for m in mutants if verdict(m, results.get(key(m))) == "equivalent"]
    if explained:
        lines += ["", "Why no test can kill the equivalent ones:", ""]
        lines += [f"* `{m.file}`, {m.what}: {m.equivalent}" for m in explained]
    return "\n".join(lines) + "\n"


def write_table(document: Path, text: str) -> None:
    """Puts the table between the two comments of the document."""
    whole = document.read_text()
    before, _, rest = whole.partition(BEGIN)
    _, _, after = rest.partition(END)
    document.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
