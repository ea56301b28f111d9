"""ONNX's own node tests say what docs/onnx.md says they say."""

from __future__ import annotations

import numpy as np
import pytest

from tests.onnx_conformance import cases_by_operator, committed, devices, not_supported

TABLE = committed()


@pytest.mark.slow
@pytest.mark.parametrize("operator", TABLE)
def test_an_operators_tests_pass_or_are_not_supported_as_the_table_says(operator: str) -> None:
    cases = cases_by_operator()[operator]
    for device in devices(operator):
        with np.errstate(all="ignore"):
            statuses = {case.name: case.status(device) for case in cases}
        failed = {name: status for name, status in statuses.items() if status.startswith("failed")}
        assert not failed, f"{device}: {failed}"
        passed = sum(status == "passed" for status in statuses.values())
        found = (passed, len(failed), len(cases) - passed - len(failed))
        assert TABLE[operator][device] == found, f"{device}: docs/onnx.md is stale: run make onnx-table"


def test_every_operator_is_in_the_table_or_said_to_be_missing() -> None:
    assert set(TABLE) | set(not_supported()) == set(cases_by_operator())


def test_nothing_fails() -> None:
    assert TABLE and not any(failed for row in TABLE.values() for _, failed, _ in row.values())
