"""Bugs in passes: recognition, fusion, folding, and the plan of memory."""

from __future__ import annotations

from tests.mutation.mutant import Mutant

PASSES = ("tests/property/test_passes.py",)
RAISE = (
    "tests/unit/test_near_misses.py",
    "tests/property/test_raise_bit_linear.py",
)
RECOGNITION = ("tests/property/test_ternary_recognition.py",)
MEMORY = ("tests/unit/test_plan_memory.py", "tests/property/test_cpu_general.py")
WEIGHTS = ("tests/unit/test_pass_weights.py", "tests/property/test_passes.py")
FILECHECK = ("tests/test_filecheck.py",)
KNOWN = ("tests/unit/test_known_numbers.py",)

MUTANTS = (
    Mutant(
        "passes/fuse_projections.py",
        "disjoint = all(a + count <= b for (a, count), (b, _) in pairwise(ranges))",
        "disjoint = True",
        "overlapping projection slices",
        PASSES + WEIGHTS + FILECHECK,
    ),
    Mutant(
        "passes/fuse_projections.py",
        "[at, 0], [*type.get_shape()]",
        "[0, 0], [*type.get_shape()]",
        "projection slices: all begin at row 0",
        PASSES + WEIGHTS,
    ),
    Mutant(
        "passes/fuse_projections.py",
        "reads=[inputs.index(member.rows) for member in group]",
        "reads=[0 for member in group]",
        "fused projections all read the first rows",
        PASSES,
    ),
    Mutant(
        "passes/fuse_projections.py",
        "zip(group, project.outs, strict=True)",
        "zip(reversed(group), project.outs, strict=True)",
        "fused projections: gate and up swapped",
        PASSES,
    ),
    Mutant(
        "passes/fuse_norm_quantize.py",
        "lambda v: MulfOp(v[0], v[1])",
        "lambda v: MulfOp(v[0], v[0])",
        "norm of a norm: the outer weight is lost",
        ("tests/property/test_fuse_norm_quantize.py",),
    ),
    Mutant(
        "passes/fuse_norm_quantize.py",
        "eps=first.norm.eps.value.data,\n        quantize_eps=first.quantize.eps.value.data,",
        "eps=first.quantize.eps.value.data,\n        quantize_eps=first.norm.eps.value.data,",
        "fused norm: eps swapped",
        ("tests/property/test_fuse_norm_quantize.py",),
    ),
    Mutant(
        "passes/fuse_norm_quantize.py",
        "return (self.x, outer, self.norm.eps, self.norm.lanes, self.quantize.eps)",
        "return (self.x, outer, self.norm.lanes, self.quantize.eps)",
        "norms of different eps are fused",
        ("tests/property/test_fuse_norm_quantize.py", *PASSES),
    ),
    Mutant(
        "passes/fold_weights.py",
        "if any(value in found.inputs for value in read):",
        "if read and read[0] in found.inputs:",
        "folding: only the first operand makes an input's value",
        WEIGHTS,
    ),
    Mutant(
        "passes/fold_weights.py",
        "return (*shapes, numbers[value])",
        "return (*shapes,)",
        "folding: trits and scale of one weight are one",
        WEIGHTS + RAISE,
    ),
    Mutant(
        "passes/quantization_patterns.py",
        "if rounded is None or rounded.low > -INT8_MAX or rounded.high < INT8_MAX:",
        "if rounded is None:",
        "recognition: any clamp is int8's",
        RAISE,
    ),
    Mutant(
        "passes/quantization_patterns.py",
        "return absolute.operand if reduced[1] == all_axes(reduced[0])[-1:] else None",
        "return absolute.operand",
        "recognition: max over any axes",
        RAISE,
    ),
    Mutant(
        "passes/quantization_patterns.py",
        "if scale is not None and near(scale, INT8_MAX):",
        "if scale is not None:",
        "recognition: any scale is 127",
        RAISE,
    ),
    Mutant(
        "passes/quantization_patterns.py",
        "value, coefficient, floor = whole.value, inner.coefficient, bound[1] / inner.coefficient",
        "value, coefficient, floor = whole.value, inner.coefficient, bound[1]",
        "recognition: floor of a divisor is not divided by its coefficient",
        RAISE,
    ),
    Mutant(
        "passes/quantization_patterns.py",
        "rounded is None or (rounded.low, rounded.high) != (-1.0, 1.0)",
        "rounded is None",
        "recognition: any clamp is a trit's",
        RAISE,
    ),
    Mutant(
        "passes/norm_patterns.py",
        "if axes != all_axes(square)[-1:] or not near(product.coefficient * count, 1.0):",
        "if axes != all_axes(square)[-1:]:",
        "recognition: a norm's mean may be any multiple of the sum",
        RAISE,
    ),
    Mutant(
        "passes/norm_patterns.py",
        "case arith.MulfOp(lhs=x, rhs=same) if x == same:",
        "case arith.MulfOp(lhs=x):",
        "recognition: x y counts as x squared",
        RAISE,
    ),
    Mutant(
        "passes/raise_bit_linear.py",
        "left = rows.rest.times(after).times(rows.step, -1)",
        "left = rows.rest.times(after)",
        "raising: the rows' step is left in the scale",
        RAISE,
    ),
    Mutant(
        "passes/raise_bit_linear.py",
        "new.append(arith.MulfOp(value, factor) if power > 0 else arith.DivfOp(value, factor))",
        "new.append(arith.MulfOp(value, factor))",
        "raising: a divisor multiplies",
        RAISE,
    ),
    Mutant(
        "passes/raise_ternary_products.py",
        "matrix = numbers.transpose(order)",
        "matrix = numbers",
        "recognition: a weight is judged in another order",
        RECOGNITION,
    ),
    Mutant(
        "passes/raise_ternary_products.py",
        "self._add(arith.SubiOp(acc, self.emission.along_last_axis(sums, acc)))",
        "self._add(arith.AddiOp(acc, self.emission.along_last_axis(sums, acc)))",
        "zero point: added, not taken off",
        RECOGNITION,
    ),
    Mutant(
        "passes/raise_ternary_products.py",
        "if splat_or_fill(self.product.init) != 0:",
        "if False:",
        "raising: what the product is added to is lost",
        RECOGNITION,
    ),
    Mutant(
        "passes/fuse_thresholds.py",
        "table = np.where(falls, table[::-1], table)",
        "table = np.where(falls, table, table)",
        "thresholds: a falling channel is not turned",
        RECOGNITION,
    ),
    Mutant(
        "passes/fuse_thresholds.py",
        "reached: npt.NDArray[np.bool_] = table > base + step",
        "reached: npt.NDArray[np.bool_] = table >= base + step",
        "thresholds: one too many",
        RECOGNITION,
    ),
    Mutant(
        "passes/fuse_thresholds.py",
        "if turned is None or not feeds_only(producer.acc, result):",
        "if turned is None:",
        "thresholds: sums that others read are negated",
        RECOGNITION,
    ),
    Mutant(
        "passes/fuse_thresholds.py",
        "np.minimum(middle + 1, high)",
        "np.minimum(middle + 2, high)",
        "thresholds: bisection is one off",
        RECOGNITION,
    ),
    Mutant(
        "passes/fuse_thresholds.py",
        "return plus * low - minus * high, plus * high - minus * low",
        "return plus * low, plus * high",
        "thresholds: negative trits widen no range",
        RECOGNITION,
    ),
    Mutant(
        "passes/fuse_convolutions.py",
        "axes = [order[axis] for axis in lists[0]]",
        "axes = list(lists[0])",
        "convolution: a transposition is forgotten",
        RECOGNITION,
    ),
    Mutant(
        "passes/fuse_elementwise.py",
        "if any(owner in group.members for owner in owners):",
        "if False:",
        "fusion: an operation moves before what it reads",
        KNOWN + PASSES,
    ),
    Mutant(
        "passes/fuse_loops.py",
        "axes = [permutation.index(axis) for axis in range(len(permutation))]",
        "axes = list(permutation)",
        "fusion: a transposition by its inverse",
        (
            *KNOWN,
            *("tests/property/test_cpu_general.py", *FILECHECK, "tests/property/test_generated_programs.py"),
        ),
    ),
    Mutant(
        "passes/fuse_loops.py",
        "all(reader_of(use.operation) <= group for",
        "any(reader_of(use.operation) <= group for",
        "fusion: what others read is taken in",
        ("tests/property/test_cpu_general.py", *FILECHECK, "tests/property/test_generated_programs.py"),
    ),
    Mutant(
        "passes/plan_memory.py",
        "return self.first <= other.last and other.first <= self.last",
        "return self.first < other.last and other.first < self.last",
        "arena: computed in place",
        MEMORY,
    ),
    Mutant(
        "passes/plan_memory.py",
        "if offset + buffers[n].size <= offsets[other]:",
        "if offset + buffers[n].size - 64 <= offsets[other]:",
        "arena: overlap of a cache line",
        MEMORY,
    ),
    Mutant(
        "passes/plan_memory.py",
        "self.last[user] if isinstance(user, ForOp | IfOp) else self.first[user]",
        "self.first[user]",
        "arena: what a loop reads dies at its first turn",
        KNOWN + MEMORY,
    ),
    Mutant(
        "passes/plan_memory.py",
        "sizes[op] = arenas[op.callee.string_value()]",
        "sizes[op] = 64",
        "arena: callees overlap their caller",
        ("tests/unit/test_plan_memory.py", "tests/unit/test_outline_layers.py"),
    ),
    Mutant(
        "passes/plan_memory.py",
        "or isinstance(value.owner, LoadOp) or value in returned:",
        "or isinstance(value.owner, LoadOp):",
        "a value returned twice is written once",
        MEMORY,
    ),
    Mutant(
        "passes/ternarize.py",
        "return any(not isinstance(op, AbsmeanOp) for op in made)",
        "return False",
        "a weight that is not ternary is believed",
        ("tests/unit/test_pass_weights.py", *RAISE),
    ),
)
