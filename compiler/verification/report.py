"""What verification found, as a table for people, as JSON, and as JUnit XML for what reads test results."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sterna.verification.rows import Row, Verdict
from sterna.verification.verify import Report, facts, machine_text

WIDTH = 150
"""Columns where the output is no terminal."""

STYLES = {
    Verdict.EQUAL: "green",
    Verdict.DIFFERS: "bold red",
    Verdict.FAILED: "bold red",
    Verdict.NOT_RUN: "yellow",
}


def print_report(report: Report, console: Console) -> None:
    """The table, then what differs and what was not run, each with why, then one line that sums it up."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("kernel", "shape", "target", "level", "threads"):
        table.add_column(name, overflow="fold", no_wrap=name not in ("shape", "kernel"))
    table.add_column("examples", justify="right")
    table.add_column("verdict")
    table.add_column("worst error", overflow="fold")
    for row, threads in merged(report.rows):
        if row.kind == "target":
            continue
        verdict = Text(row.verdict.value, style=STYLES[row.verdict])
        name = row.name if row.kind != "pass" else f"pass {row.name}"
        table.add_row(
            name, row.shape, row.target, row.isa, threads, str(row.examples), verdict, row.worst_text
        )
    console.print(table)
    for row in report.bad:
        console.print(Text(f"{row.verdict.value}: {_place(row)}: {row.detail}", style="red"), soft_wrap=True)
        if row.reproducer is not None:
            console.print(Text(f"  reproducer: {row.reproducer}"), soft_wrap=True)
    for row, _ in merged(report.not_run):
        console.print(Text(f"not run: {_place(row)}: {row.detail}", style="yellow"), soft_wrap=True)
    console.print(Text(summary(report), style="bold"), soft_wrap=True)


def summary(report: Report) -> str:
    ran = [row for row in report.rows if row.verdict != Verdict.NOT_RUN]
    examples = sum(row.examples for row in ran)
    levels = sorted({f"{row.target} {row.isa}" for row in ran if row.isa})
    counts = sorted({row.threads for row in ran if row.threads})
    threads = f"; threads {', '.join(map(str, counts))}" if counts else ""
    return (
        f"{len(ran)} comparisons on {examples} examples: {len(report.bad)} bad, {len(report.not_run)} not run; "
        f"{', '.join(levels) or 'nothing'}{threads}; {machine_text()}; seed {report.request.seed}; "
        f"{report.seconds:.0f} s"
    )


def merged(rows: Iterable[Row]) -> list[tuple[Row, str]]:
    """Rows that differ in the number of threads alone are one, with all their numbers."""
    result: list[tuple[Row, str]] = []
    key = _merge_key
    for _, group in groupby(rows, key):
        alike = list(group)
        counts = [str(row.threads) for row in alike if row.threads is not None]
        examples = sum(row.examples for row in alike)
        result.append((replace(alike[0], examples=examples), ", ".join(counts)))
    return result


def _merge_key(row: Row) -> tuple[Any, ...]:
    alone = id(row) if row.is_bad else 0
    return (
        row.kind,
        row.name,
        row.shape,
        row.target,
        row.isa,
        row.verdict,
        row.worst_text,
        row.detail,
        alone,
    )


def _place(row: Row) -> str:
    threads = f"{row.threads} thread{'s' if row.threads != 1 else ''}" if row.threads else ""
    where = " ".join(filter(None, (row.target, row.isa)))
    kind = {"pass": "pass ", "kernel": "kernel "}.get(row.kind, "")
    return ", ".join(filter(None, (f"{kind}{row.name} on {where}", threads)))


def write_json(report: Report, path: Path) -> None:
    rows = [
        {
            "kind": row.kind,
            "name": row.name,
            "shape": row.shape,
            "target": row.target,
            "level": row.isa,
            "threads": row.threads,
            "contract": row.contract,
            "examples": row.examples,
            "verdict": row.verdict.value.lower(),
            "worst_error": row.worst_text,
            "detail": row.detail,
            "reproducer": str(row.reproducer) if row.reproducer is not None else None,
            "seconds": round(row.seconds, 3),
        }
        for row in report.rows
    ]
    whole = {**facts(report), "green": report.is_green, "results": rows}
    _write(path, json.dumps(whole, indent=1).encode() + b"\n")


def write_junit(report: Report, path: Path) -> None:
    """A test case a row; a mismatch is a failure, what did not compile an error, what was not run is skipped."""
    differs = [row for row in report.rows if row.verdict == Verdict.DIFFERS]
    counts = {
        "tests": len(report.rows),
        "failures": len(differs),
        "errors": len(report.bad) - len(differs),
        "skipped": len(report.not_run),
    }
    numbers = {name: str(count) for name, count in counts.items()}
    time = f"{report.seconds:.3f}"
    suites = Xml.Element("testsuites", {**numbers, "time": time})
    suite = Xml.SubElement(suites, "testsuite", {"name": "sterna verify", **numbers, "time": time})
    properties = Xml.SubElement(suite, "properties")
    for name, value in facts(report).items():
        Xml.SubElement(properties, "property", {"name": name, "value": str(value)})
    for row in report.rows:
        place = ".".join(filter(None, (row.target, row.isa, f"threads-{row.threads}" if row.threads else "")))
        case = Xml.SubElement(
            suite,
            "testcase",
            {"classname": place, "name": f"{row.kind} {row.name}", "time": f"{row.seconds:.3f}"},
        )
        match row.verdict:
            case Verdict.DIFFERS:
                Xml.SubElement(case, "failure", {"message": row.detail}).text = str(row.reproducer or "")
            case Verdict.FAILED:
                Xml.SubElement(case, "error", {"message": row.detail})
            case Verdict.NOT_RUN:
                Xml.SubElement(case, "skipped", {"message": row.detail})
            case Verdict.EQUAL:
                Xml.SubElement(
                    case, "system-out"
                ).text = f"{row.examples} examples, {row.contract}, worst error {row.worst_text}"
    Xml.indent(suites)
    _write(path, Xml.tostring(suites, encoding="utf-8", xml_declaration=True) + b"\n")


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(data)
    os.replace(temporary, path)
