"""Artifacts: what is written is read back, and anything else is one line that says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from sterna.artifact import MANIFEST, PAGE_BYTES, WEIGHTS, Artifact, ArtifactError, is_artifact
from sterna.artifact_writer import Contents, check_destination, copy_artifact, placed_weights, write_artifact
from sterna.dialects import packing
from sterna.dialects.context import parse
from sterna.dialects.interpreter import evaluate_weight
from sterna.dialects.weights import RandomStore

PLANNED = """
ternary.weight @"norm.weight" attributes {offset = 0 : i64} : tensor<20xf32>
ternary.weight @table attributes {offset = 128 : i64} : tensor<3x5xf32>
ternary.weight @w : tensor<6x300xf32>
ternary.weight @w.trits attributes {offset = 320 : i64}
  : tensor<6x300x!ternary.trit, #ternary.encoding<i2, tile = [4, 256]>> {
  %w = ternary.load @w : tensor<6x300xf32>
  %t, %s = ternary.absmean %w eps = 1.000000e-05 : tensor<6x300xf32> -> tensor<6x300x!ternary.trit>, tensor<f32>
  ternary.yield %t : tensor<6x300x!ternary.trit>
}
"""
STORE = RandomStore({"norm.weight": (20,), "table": (3, 5), "w": (6, 300)})
WEIGHTS_BYTES = 320 + 2 * 2 * 4 * 64


def contents(**changes: object) -> Contents:
    fields: dict[str, object] = {
        "planned": parse(PLANNED),
        "weights": STORE,
        "target": "cpu",
        "program": {"weights_bytes": WEIGHTS_BYTES},
        "kernels": {"kernels.baseline.o": b"\x7fELF"},
        "stages": {"imported": "builtin.module {}\n", "scheduled": "// later\n"},
        "source": "made-up",
        "companions": {"config.json": b'{"eos_token_id": 2}'},
    }
    return Contents(**{**fields, **changes})  # pyright: ignore[reportArgumentType]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model.sterna"
    write_artifact(path, contents())
    return path


def test_weights_are_where_the_plan_put_them(folder: Path) -> None:
    data = Artifact.open(folder).map_weights(WEIGHTS_BYTES)
    module = parse(PLANNED)
    for weight in placed_weights(module):
        expected = packing.pack(evaluate_weight(module, weight.name, STORE), weight.op.type)
        assert np.array_equal(data[weight.offset : weight.offset + weight.bytes], expected)


def test_the_packed_weights_start_at_a_page(folder: Path) -> None:
    assert (folder / WEIGHTS).stat().st_size % PAGE_BYTES == WEIGHTS_BYTES % PAGE_BYTES


def test_any_safetensors_reader_opens_the_weights(folder: Path) -> None:
    arrays = load_file(folder / WEIGHTS)
    assert {name: (array.shape, array.dtype.name) for name, array in arrays.items()} == {
        "norm.weight": ((32,), "float32"),
        "table": ((3, 16), "float32"),
        "w.trits": ((1024,), "uint8"),
    }
    assert np.array_equal(arrays["norm.weight"][:20], STORE.read("norm.weight"))


def test_the_rest_is_read_back(folder: Path) -> None:
    artifact = Artifact.open(folder)
    assert artifact.stages() == ("imported", "scheduled")
    assert artifact.ir("scheduled") == "// later\n"
    assert artifact.config() == {"eos_token_id": 2}
    assert artifact.kernels() == {"kernels.baseline.o": folder / "kernels.baseline.o"}
    facts = artifact.manifest.model
    assert (facts.parameters, facts.ternary_parameters, facts.packed_bytes) == (
        20 + 15 + 1800,
        1800,
        WEIGHTS_BYTES,
    )
    with pytest.raises(ArtifactError, match="expected a stage of imported, scheduled, found 'fused'"):
        artifact.ir("fused")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_flipped_bit_is_found(folder: Path, data: st.DataObject) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    file = data.draw(st.sampled_from(files))
    original = file.read_bytes()
    place = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        file.write_bytes(changed)
        with pytest.raises(ArtifactError) as error:
            Artifact.open(folder)
        assert file.name in str(error.value) and "\n" not in str(error.value)
    finally:
        file.write_bytes(original)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_manifest_is_read_or_refused_in_one_line(folder: Path, data: st.DataObject) -> None:
    original = (folder / MANIFEST).read_text()
    manifest = json.loads(original)
    value = data.draw(
        st.recursive(st.none() | st.integers() | st.text() | st.floats(), st.lists, max_leaves=3)
    )
    place = manifest
    while data.draw(st.booleans()) and (inner := [k for k, v in place.items() if isinstance(v, dict)]):
        place = place[data.draw(st.sampled_from(inner))]
    place[data.draw(st.sampled_from([*place, "../../etc/passwd", "/etc/passwd"]))] = value
    try:
        (folder / MANIFEST).write_text(json.dumps(manifest))
        with pytest.raises(ArtifactError) as error:
            Artifact.open(folder)
        assert "\n" not in str(error.value)
    finally:
        (folder / MANIFEST).write_text(original)


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "ir/../../x", "a/b/c", "", ".hidden", "a\\b", "ir/"]
)
def test_a_path_out_of_the_artifact_is_refused(folder: Path, name: str) -> None:
    reseal(folder, lambda manifest: manifest["files"].update({name: {"bytes": 0, "sha256": ""}}))
    with pytest.raises(ArtifactError, match="expected a path inside the artifact"):
        Artifact.open(folder)


def test_another_format_version_says_what_to_do(folder: Path) -> None:
    reseal(folder, lambda manifest: manifest.update(format_version=99))
    with pytest.raises(
        ArtifactError, match="'format_version': expected 3; compile the model again, found 99"
    ):
        Artifact.open(folder)


def test_a_link_in_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder.parent / "elsewhere")
    (folder / WEIGHTS).symlink_to(folder.parent / "elsewhere")
    with pytest.raises(ArtifactError, match=r"weights\.safetensors: expected a file of"):
        Artifact.open(folder)


def test_missing_things_are_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ArtifactError, match="nowhere: no such file or directory"):
        Artifact.open(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match=r"not an artifact: expected manifest\.json in it"):
        Artifact.open(tmp_path)
    (folder / "kernels.baseline.o").unlink()
    with pytest.raises(ArtifactError, match=r"kernels\.baseline\.o: expected a file of 4 bytes, found none"):
        Artifact.open(folder)


def test_weights_of_another_program_are_refused(folder: Path) -> None:
    with pytest.raises(ArtifactError, match=f"expected 64 bytes of weights, found {WEIGHTS_BYTES}"):
        Artifact.open(folder).map_weights(64)


def test_an_artifact_is_replaced_and_nothing_else(tmp_path: Path, folder: Path) -> None:
    write_artifact(folder, contents(source="another"))
    assert Artifact.open(folder).manifest.model.source == "another"
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.tex").touch()
    file = tmp_path / "file"
    file.touch()
    for path in (precious, file):
        with pytest.raises(ArtifactError, match="exists and is not an artifact"):
            check_destination(path)
    with pytest.raises(ArtifactError, match="there is no directory"):
        check_destination(tmp_path / "no" / "model.sterna")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "model.sterna", "precious"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit])
def test_nothing_half_written_is_left(tmp_path: Path, folder: Path, error: type[BaseException]) -> None:
    class Failing(RandomStore):
        def read(self, name: str) -> np.ndarray:
            if name == "w":
                raise error
            return super().read(name)

    before = (folder / MANIFEST).read_bytes()
    for path in (folder, tmp_path / "new.sterna"):
        with pytest.raises(error):
            write_artifact(path, contents(weights=Failing(STORE.shapes)))
    assert [path.name for path in tmp_path.iterdir()] == ["model.sterna"]
    assert (folder / MANIFEST).read_bytes() == before


def test_a_copy_is_whole(tmp_path: Path, folder: Path) -> None:
    copy_artifact(folder, tmp_path / "copy.sterna")
    assert is_artifact(tmp_path / "copy.sterna")
    assert Artifact.open(tmp_path / "copy.sterna").manifest == Artifact.open(folder).manifest


def reseal(folder: Path, change: object) -> None:
    """Changes the manifest and gives it the seal of the changed text."""
    from sterna import artifact

    manifest = json.loads((folder / MANIFEST).read_text())
    change(manifest)  # pyright: ignore[reportCallIssue]
    manifest["seal"] = artifact.UNSEALED
    text = json.dumps(manifest)
    seal = artifact._seal(text)  # pyright: ignore[reportPrivateUsage]
    (folder / MANIFEST).write_text(text.replace(artifact.UNSEALED, seal))
