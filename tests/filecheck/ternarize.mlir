// RUN: not sterna-opt %s -p ternarize --weights random 2>&1 | filecheck %s
// RUN: not sterna-opt %s -p ternarize 2>&1 | filecheck %s --check-prefix=UNREAD

// CHECK: 2 linear layers are not ternary: ternary.accumulate (@claimed, 4x8: {{.*}}not ternary: its non-zero elements have 32 distinct magnitudes{{.*}}); linalg.matmul (@float, 8x4: float weights: 32 distinct magnitudes in the first 32 elements)

// Without numbers a claim is taken as it is.
// UNREAD: 1 linear layer is not ternary: linalg.matmul (@float, 8x4: float weights)

ternary.weight @w : tensor<4x8xf32>
ternary.weight @made : tensor<4x8x!ternary.trit> {
  %w = ternary.load @w : tensor<4x8xf32>
  %t, %s = ternary.absmean %w eps = 1.0e-05 : tensor<4x8xf32> -> tensor<4x8x!ternary.trit>, tensor<f32>
  ternary.yield %t : tensor<4x8x!ternary.trit>
}
ternary.weight @claimed : tensor<4x8x!ternary.trit> {
  %w = ternary.load @w : tensor<4x8xf32>
  %t, %s = ternary.ternarize %w : tensor<4x8xf32> -> tensor<4x8x!ternary.trit>, tensor<f32>
  ternary.yield %t : tensor<4x8x!ternary.trit>
}
ternary.weight @float : tensor<8x4xf32>

func.func @forward(%q: tensor<?x8xi8>, %x: tensor<?x8xf32>, %init: tensor<?x4xf32>) -> (tensor<?x4xi32>, tensor<?x4xi32>, tensor<?x4xf32>) {
  %made = ternary.load @made : tensor<4x8x!ternary.trit>
  %0 = ternary.accumulate %q, %made : tensor<?x8xi8>, tensor<4x8x!ternary.trit> -> tensor<?x4xi32>
  %claimed = ternary.load @claimed : tensor<4x8x!ternary.trit>
  %1 = ternary.accumulate %q, %claimed : tensor<?x8xi8>, tensor<4x8x!ternary.trit> -> tensor<?x4xi32>
  %w = ternary.load @float : tensor<8x4xf32>
  %2 = linalg.matmul ins(%x, %w : tensor<?x8xf32>, tensor<8x4xf32>) outs(%init : tensor<?x4xf32>) -> tensor<?x4xf32>
  func.return %0, %1, %2 : tensor<?x4xi32>, tensor<?x4xi32>, tensor<?x4xf32>
}
