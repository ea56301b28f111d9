"""What the launches of the shipped model compile to, for GPUs that are not here: a step of a text, and a long prompt.
And those of attention, with the published transformer's heads.

Slow: Triton compiles some thirty kernels for each GPU, a second or two each.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from sterna.api import load_source
from sterna.dialects.weights import RandomStore
from sterna.frontends.checkpoint import import_bitnet
from sterna.lowering import lower
from sterna.plugins import find_target
from sterna.targets.triton.engine import load_file
from tests.bitnet_checkpoints import ONLINE
from tests.gpu_launches import Launch, compiled_launches, launches_of
from tests.gpu_texts import emit

pytestmark = pytest.mark.slow

CHECKPOINT = Path(__file__).parents[2] / "examples" / "checkpoints" / "matmulfree-shakespeare"
CALLS = ((1, 1), (1, 4096))
UNSPLIT, SPLIT = 2, 9
"""Two configurations of `FEW`: a program for some channels, and two that share the columns."""
FORBIDDEN = r"\bfma\.|\.ftz|div\.full|\.approx"
"""What rounds twice in one, or not correctly."""


@pytest.fixture(scope="module")
def emitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    imported = load_source(CHECKPOINT, None)
    target = find_target("triton")
    lower(imported.module, imported.weights, target)
    path = tmp_path_factory.mktemp("launches") / "kernels.py"
    path.write_text(target.emit(imported.module, "triton"))
    return path


@pytest.fixture(scope="module")
def hopper(emitted: Path) -> list[Launch]:
    return compiled_launches(load_file(emitted), "cuda:90", CALLS, (UNSPLIT, SPLIT))


@pytest.fixture(scope="module")
def ampere(emitted: Path) -> list[Launch]:
    return compiled_launches(load_file(emitted), "cuda:80", CALLS, (UNSPLIT,), only="project")


@pytest.fixture(scope="module", params=["cuda:80", "cuda:90"])
def launches(request: pytest.FixtureRequest) -> list[Launch]:
    return request.getfixturevalue({"cuda:80": "ampere", "cuda:90": "hopper"}[request.param])


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One group of the published model's heads: four that share keys of 128 columns, and 4096 rows of cache."""
    config = replace(
        ONLINE,
        hidden_size=512,
        num_hidden_layers=1,
        num_key_value_heads=1,
        max_position_embeddings=4096,
    )
    module, weights = import_bitnet(config), RandomStore(config.tensor_shapes())
    return emit(module, weights, tmp_path_factory.mktemp("transformer")) / "kernels.py"


def test_a_step_of_one_text_launches_the_products_alone(emitted: Path) -> None:
    module = load_file(emitted)
    layers = ["project_0", "project_1", "project_2", "project_3"] * 3
    first = ["embedding_to_norm_quantize_0", "project_4", *layers[1:4]]
    assert launches_of(module, 1, 1) == [*first, *layers, "project_5", "likeliest_kernel"]
    # Of several texts a norm is launched for all, and of a prompt the recurrence.
    assert len(launches_of(module, 2, 1)) == 4 * 8 + 3
    assert len(launches_of(module, 1, 2)) == 4 * 9 + 3


ATTENTION = ("positions", "rotate", "write_cache", "attention", "turn_keys")


@pytest.mark.parametrize("isa", ["cuda:80", "cuda:90"])
def test_attention_shares_what_it_loads_and_keeps_its_sums_in_registers(transformer: Path, isa: str) -> None:
    launches = compiled_launches(load_file(transformer), isa, CALLS, (), only=ATTENTION)
    for each in launches:
        assert resources(each) == (0, 0), each.name
        assert not re.search(FORBIDDEN, each.texts["ptx"]), each.name
        assert isa != "cuda:90" or each.texts["ptx"].count("griddepcontrol.wait") == 1, each.name
    of_step = ("attention_scores_0", "attention_sums_0", "attention_total_0")
    texts = {each.name: each.texts["ptx"] for each in launches}
    assert texts.keys() >= {*of_step, "turn_keys_0", "attention_0"}
    scores, sums, total = (texts[name] for name in of_step)
    # Of a piece of 64 keys every thread loads eight times two vectors, and no more for the four heads that share them.
    assert len(re.findall(r"ld\.global\.v4\.b32", scores)) == 8 * (2 + 4)
    assert len(re.findall(r"ld\.global\.v4\.b32", sums)) == 8 * 2
    assert "ld.global.v4.b32" in total


def products(launches: list[Launch], *, many: bool) -> list[Launch]:
    found = [each for each in launches if each.many is many]
    assert len({each.name for each in found}) == 6, "two kinds of layers' input, o, gate, down, head"
    return found


def test_products_of_a_row_load_16_bytes_at_once_and_multiply_bytes(launches: list[Launch]) -> None:
    for each in products(launches, many=False):
        sums = each.texts["ptx"].count("prefetch.global.L2") or 1
        # The packed trits of every product, and the activations of four fields, which products may share.
        assert len(re.findall(r"ld\.global\.v4\.b32", each.texts["ptx"])) >= sums + 4, each.name
        assert each.texts["ptx"].count("dp4a.u32.s32") >= 16 * sums, each.name


def test_products_of_a_prompt_run_on_tensor_cores_from_16_byte_loads(launches: list[Launch]) -> None:
    for each in products(launches, many=True):
        ptx = each.texts["ptx"]
        assert re.search(r"(wgmma\.mma_async|mma\.sync)\S*\.s32\.s8\.s8", ptx), each.name
        assert re.search(r"ld\.global\.v4\.b32|cp\.async\.cg\.shared\.global .*0x10", ptx), each.name
        assert "dp4a" not in ptx
        # Trits are unpacked four bytes at a time, in words.
        assert not re.search(r"\b(?:shr|add|sub|mul\.lo)\.[bsu]16\b", ptx), each.name


def test_hopper_takes_the_products_of_its_warp_groups(hopper: list[Launch]) -> None:
    for each in products(hopper, many=True):
        assert "wgmma.mma_async" in each.texts["ptx"], each.name


def test_no_kernel_spills(launches: list[Launch]) -> None:
    for each in launches:
        stack, local = resources(each)
        assert (stack, local) == (0, 0), (each.name, each.constants)


def resources(launch: Launch) -> tuple[int, int]:
    """Bytes of a thread's stack, where spilled registers go, and of its local memory."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(launch.texts["cubin"])
        told = subprocess.run(
            [str(tool), "--dump-resource-usage", str(path)], capture_output=True, text=True, check=True
        ).stdout
    stack, local = (int(found) for found in re.findall(r"(?:STACK|LOCAL):(\d+)", told))
    return stack, local


def test_no_rounding_is_taken_away(launches: list[Launch]) -> None:
    for each in launches:
        assert not re.search(FORBIDDEN, each.texts["ptx"]), (each.name, each.constants)


def test_kernels_of_hopper_start_before_their_turn_and_wait_for_it(hopper: list[Launch]) -> None:
    for each in hopper:
        if each.name != "likeliest_kernel":
            ptx = each.texts["ptx"]
            assert each.metadata.launch_pdl
            assert ptx.count("griddepcontrol.wait") == 1
            before = ptx[: ptx.index("griddepcontrol.wait")]
            assert not re.search(r"\b(?:ld|st|atom|red)\.global", before), each.name


def test_sums_are_shared_by_atomic_additions_where_programs_share_columns(hopper: list[Launch]) -> None:
    split = [each for each in hopper if each.constants.get("SPLIT") == 2]
    assert len(split) == 6
    for each in split:
        assert re.search(r"atom\.global\S*\.add\.(?:s|u)32|red\.\S*add\.(?:s|u)32", each.texts["ptx"]), (
            each.name
        )
        assert re.search(r"atom\S*acq_rel", each.texts["ptx"]), each.name


def test_amd_takes_its_matrix_products(emitted: Path) -> None:
    found = compiled_launches(load_file(emitted), "hip:gfx942", ((1, 4096),), (), only="project")
    for each in products(found, many=True):
        assert "v_mfma_i32" in each.texts["amdgcn"], each.name
