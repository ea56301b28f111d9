// RUN: sterna-opt %s | filecheck %s
// RUN: sterna-opt %s -p canonicalize --weights random:1 | filecheck %s --check-prefix=CANONICAL
// RUN: not sterna-opt %s -p canonicalise 2>&1 | filecheck %s --check-prefix=UNKNOWN

// UNKNOWN: error: unknown pass 'canonicalise'; did you mean 'canonicalize'?

ternary.weight @"lm_head.weight" : tensor<8x4xf32>
// CHECK: ternary.weight @lm_head.weight : tensor<8x4xf32>

func.func @forward(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  // CANONICAL-NOT: ternary.load
  %unused = ternary.load @"lm_head.weight" : tensor<8x4xf32>
  func.return %x : tensor<?x4xf32>
}
// CANONICAL: func.return
