"""A copy of the tree in which bugs are planted. The work tree itself is never written."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.mutation.mutant import Mutant

PACKAGES = ("dialects", "passes", "targets", "frontends")
"""Folders at the top that are packages below `sterna`, as pyproject.toml's package-directory map says."""

FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True)
class Outcome:
    """Of a run of tests: whether they passed, and else the first that did not."""

    passed: bool
    first: str
    """The test that failed; what happened, where none did."""
    seconds: float


@dataclass
class Tree:
    """A copy of all files that git knows or would know, which Python imports in place of the installed ones."""

    root: Path
    _planted: int = field(default=0)

    @staticmethod
    def copy_of(source: Path, root: Path) -> Tree:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=source, capture_output=True, check=True).stdout.decode()
        for name in filter(None, listed.split("\0")):
            if (source / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / name, root / name)
        (root / "sterna").symlink_to("compiler")
        for package in PACKAGES:
            (root / "compiler" / package).symlink_to(Path("..") / package)
        tree = Tree(root)
        tree._check_imports()
        return tree

    def environment(self) -> dict[str, str]:
        """The copy first on Python's path, and no caches but its own."""
        own = {"PYTHONPATH": str(self.root), "XDG_CACHE_HOME": str(self.root / "cache")}
        return os.environ | own

    def _check_imports(self) -> None:
        """A run that tested the installed code would call every mutant a survivor."""
        names = ("sterna", *(f"sterna.{package}" for package in PACKAGES))
        code = f"import {', '.join(names)}; print(*(m.__file__ for m in ({', '.join(names)},)), sep='\\n')"
        command = [sys.executable, "-c", code]
        found = subprocess.run(
            command, cwd=self.root, env=self.environment(), capture_output=True, check=True
        ).stdout.decode()
        for line in found.splitlines():
            if not Path(line).is_relative_to(self.root):
                raise RuntimeError(f"the copy in {self.root} imports {line}")

    def run_with(self, mutant: Mutant, seconds: int) -> Outcome:
        """Runs the mutant's tests with its bug planted, and takes it out again."""
        path = self.root / mutant.file
        right = path.read_bytes()
        try:
            self._write(path, mutant.planted(self.root).encode())
            return self.run(mutant.tests, seconds)
        finally:
            self._write(path, right)

    def _write(self, path: Path, data: bytes) -> None:
        """With a time of its own: Python takes compiled code for current if time and size are the source's."""
        path.write_bytes(data)
        self._planted += 1
        when = int(time.time()) - 10_000_000 + self._planted
        os.utime(path, (when, when))

    def run(self, tests: Sequence[str], seconds: int) -> Outcome:
        """The tests, in that order, up to the first that fails."""
        shutil.rmtree(self.root / ".hypothesis", ignore_errors=True)
        shutil.rmtree(self.root / "cache", ignore_errors=True)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "--tb=no", "-p", "no:cacheprovider"]
        command += ["--hypothesis-profile=mutants"]
        began = time.monotonic()
        process = subprocess.Popen(
            [*command, *tests],
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return Outcome(False, f"no end within {seconds} s", time.monotonic() - began)
        taken = time.monotonic() - began
        text = output.decode(errors="replace")
        if process.returncode == 0:
            return Outcome(True, "", taken)
        if process.returncode not in (1, 2) and process.returncode > 0:
            raise RuntimeError(f"pytest ended with {process.returncode}: {text[-2000:]}")
        found = FAILED.search(text)
        crashed = f"the process died of signal {-process.returncode}" if process.returncode < 0 else ""
        return Outcome(False, found.group(1) if found else crashed or "the tests cannot be imported", taken)
