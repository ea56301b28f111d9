// RUN: not sterna-opt %s -p convert-ternary-to-loops 2>&1 | filecheck %s
// RUN: not sterna-opt %s -p 'convert-ternary-to-loops{isa=mmx}' 2>&1 | filecheck %s --check-prefix ISA

func.func @forward(%x: tensor<?x16xf32>) -> tensor<?x16xf32> {
  func.return %x : tensor<?x16xf32>
}

// CHECK: error: {{.*}}builtin.module has no integer attribute 'ternary.max_rows': run plan-memory first
// ISA: error: {{.*}}unknown instruction set 'mmx', expected one of: avx512vnni, avx2, baseline
