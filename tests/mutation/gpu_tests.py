"""Which tests ought to notice a bug in the GPU target, by what they are about."""

from __future__ import annotations

OPERATIONS = "tests/property/test_triton_programs.py"
ROWS = "tests/property/test_triton_kernels.py"
TARGET = "tests/unit/test_triton_target.py"
PAST = "tests/property/test_attention.py"

ANY = (f"{OPERATIONS}::test_any_program_unfused", f"{OPERATIONS}::test_generated_programs")
PRODUCTS = (f"{ROWS}::test_project_sums_exactly",)
STEPS = (f"{ROWS}::test_a_product_computes_its_row_and_the_state_that_follows",)
SHARED = (f"{ROWS}::test_programs_that_share_columns_sum_exactly",)
NORMS = (f"{ROWS}::test_norms_and_quantization",)
ROUNDINGS = (f"{OPERATIONS}::test_roundings_of_small_and_large_numbers",)
CONVERSIONS = (f"{OPERATIONS}::test_conversions_saturate",)
DIVISIONS = (f"{OPERATIONS}::test_division_by_zero_and_of_the_least_number",)
TOP_K = (f"{OPERATIONS}::test_top_k_of_rows_of_several_pieces",)
SUMS = (
    f"{OPERATIONS}::test_accumulate_adds_each_group",
    f"{OPERATIONS}::test_convolve_adds_each_window",
    f"{OPERATIONS}::test_convolve_of_many_channels_and_positions",
)
ATTENTION = (
    f"{PAST}::test_gpu_kernels_at_the_edges_of_blocks",
    f"{PAST}::test_gpu_kernels_equal_the_interpreter",
    f"{PAST}::test_gpu_kernels_of_wide_heads_and_of_keys_in_two_pieces",
)
DENSE = (f"{PAST}::test_a_dense_product_is_the_interpreters_on_both_targets",)


def arithmetic(test: str) -> tuple[str, ...]:
    return (f"tests/unit/test_known_arithmetic_gpu.py::test_{test}",)


def known(test: str) -> tuple[str, ...]:
    return (f"tests/unit/test_known_numbers_gpu.py::test_{test}",)


TEXTS = (
    "tests/property/test_gpu_texts.py::test_texts_of_a_transformer_alone_and_together_take_different_kernels",
)
EDGES = (f"{TARGET}::test_a_draw_at_an_edge_is_that_of_the_host",)
DRAWS = (f"{TARGET}::test_a_draw_on_the_device_is_that_of_the_host",)
