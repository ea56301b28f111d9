"""The table of mutants still applies to the code, and its machinery notices what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutation.mutant import Mutant, StaleMutant
from tests.mutation.report import BEGIN, END, Result, key, table, verdict, write_table
from tests.mutation.table import MUTANTS

ROOT = Path(__file__).parents[2]


def test_every_mutant_applies_once() -> None:
    for mutant in MUTANTS:
        compile(mutant.planted(ROOT), mutant.file, "exec")


def test_every_mutant_names_tests_that_are_there_and_is_called_something_else() -> None:
    assert len({key(mutant) for mutant in MUTANTS}) == len(MUTANTS) >= 60
    for mutant in MUTANTS:
        assert mutant.tests and all(map(is_there, mutant.tests)), key(mutant)


def is_there(test: str) -> bool:
    """A file, or a function in one."""
    file, _, name = test.partition("::")
    return (ROOT / file).is_file() and (not name or f"\ndef {name}(" in (ROOT / file).read_text())


def test_a_mutant_whose_text_is_gone_or_there_twice_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\ny = 1\n")
    with pytest.raises(StaleMutant, match="occurs 2 times"):
        Mutant("a.py", "= 1", "= 2", "two", ()).planted(tmp_path)
    with pytest.raises(StaleMutant, match="occurs 0 times"):
        Mutant("a.py", "= 3", "= 2", "none", ()).planted(tmp_path)
    assert Mutant("a.py", "y = 1", "y = 2", "one", ()).planted(tmp_path) == "x = 1\ny = 2\n"


def test_the_table_says_what_was_killed_what_survived_and_what_cannot_be_told(tmp_path: Path) -> None:
    killed, survivor = Mutant("a.py", "1", "2", "one", ("t",)), Mutant("b.py", "1", "2", "two", ("t",))
    same = Mutant("c.py", "1", "2", "three", ("t",), equivalent="it is the same")
    results = {key(killed): Result(True, "tests/t.py::test_it", 1.0)}
    results |= {key(mutant): Result(False, "", 2.0) for mutant in (survivor, same)}
    mutants = (killed, survivor, same)
    assert [verdict(m, results[key(m)]) for m in mutants] == ["killed", "survived", "equivalent"]
    text = table(mutants, results)
    assert text.startswith("3 mutants: 1 killed, 1 equivalent, 1 survived.\n")
    assert "| `a.py` | one | killed | `t.py::test_it` |" in text and "it is the same" in text
    document = tmp_path / "a.md"
    document.write_text(f"before\n{BEGIN}old\n{END}\nafter\n")
    write_table(document, text)
    assert document.read_text() == f"before\n{BEGIN}\n{text}\n{END}\nafter\n"
