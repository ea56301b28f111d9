"""Runs the `// RUN:` lines of every IR test in this process: a hundred of them take a few seconds.

A RUN line is what a shell would run: `sterna-opt %s -p some-pass | filecheck %s`. Understood are `%s` (this file),
`not` (the command is expected to fail), `2>&1`, and any number of RUN lines; one that ends in a backslash goes on in
the next.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import traceback
from pathlib import Path

import pytest
from filecheck.finput import FInput
from filecheck.matcher import Matcher
from filecheck.options import parse_argv_options
from filecheck.parser import Parser

from sterna import opt

ROOT = Path(__file__).parent / "filecheck"
TESTS = sorted(path for path in ROOT.rglob("*.mlir"))
RUN = re.compile(r"//\s*RUN:\s*(.*)")


def run_lines(text: str) -> list[str]:
    joined = re.sub(r"\\\n\s*//\s*RUN:", " ", text)
    return [match[1].strip() for match in RUN.finditer(joined)]


def sterna_opt(words: list[str], *, expect_failure: bool) -> str:
    """What the command prints: stdout, and with `2>&1` also stderr."""
    merged = "2>&1" in words
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out if merged else err):
        try:
            code = opt.main([word for word in words if word != "2>&1"])
        except SystemExit as stop:
            code = stop.code
        except Exception:
            pytest.fail(f"sterna-opt must not raise:\n{traceback.format_exc()}")
    if bool(code) != expect_failure:
        pytest.fail(f"sterna-opt exited with {code}:\n{out.getvalue()}{err.getvalue()}")
    return out.getvalue()


def file_check(words: list[str], text: str) -> None:
    options = parse_argv_options(["filecheck", *words])
    complaint = io.StringIO()
    with contextlib.redirect_stdout(complaint), contextlib.redirect_stderr(complaint):
        code = Matcher(options, FInput("<stdin>", text), Parser.from_opts(options)).run()
    if code:
        pytest.fail(f"{complaint.getvalue()}\nThe program's output was:\n{text}", pytrace=False)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: str(path.relative_to(ROOT).with_suffix("")))
def test_filecheck(path: Path) -> None:
    commands = run_lines(path.read_text(encoding="utf-8"))
    assert commands, f"{path} has no RUN line"
    for command in commands:
        text = ""
        for stage in command.split(" | "):
            words = [word.replace("%s", str(path)) for word in shlex.split(stage)]
            expect_failure = words[0] == "not"
            match words[expect_failure:]:
                case ["sterna-opt", *rest]:
                    text = sterna_opt(rest, expect_failure=expect_failure)
                case ["filecheck", *rest]:
                    file_check(rest, text)
                case _:
                    pytest.fail(f"a RUN line runs sterna-opt or filecheck, found: {stage}")
