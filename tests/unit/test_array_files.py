"""Arrays of files on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sterna.arrays import read_arrays
from sterna.dialects.errors import CompileError

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.save(tmp_path / "x.npy", X)
    return tmp_path / "x.npy"


def test_an_array_has_the_name_that_is_given(file: Path) -> None:
    assert np.array_equal(read_arrays([f"b={file}"], ["a", "b"])["b"], X)


def test_the_only_input_needs_no_name(file: Path) -> None:
    assert np.array_equal(read_arrays([str(file)], ["a"])["a"], X)


def test_one_of_several_inputs_needs_a_name(file: Path) -> None:
    with pytest.raises(CompileError, match=r"say of which input, as NAME=.*x\.npy: a, b$"):
        read_arrays([str(file)], ["a", "b"])


def test_a_file_of_several_arrays_has_their_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", a=X, b=2 * X)
    read = read_arrays([str(tmp_path / "all.npz")], ["a", "b"])
    assert np.array_equal(read["b"], 2 * X)
    with pytest.raises(CompileError, match=r"the arrays of a \.npz file have names"):
        read_arrays([f"a={tmp_path / 'all.npz'}"], ["a", "b"])


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(CompileError, match="expected arrays of numbers"):
        read_arrays([str(tmp_path / "x.npy")], ["x"])
