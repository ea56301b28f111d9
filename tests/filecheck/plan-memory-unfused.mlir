// RUN: not sterna-opt %s -p plan-memory 2>&1 | filecheck %s
// CHECK: 1 operations are for weights alone, and no kernel computes them: ternary.absmean

func.func @forward(%x: tensor<4x8xf32>) -> tensor<f32> {
  %0 = arith.negf %x : tensor<4x8xf32>
  %t, %s = ternary.absmean %0 eps = 1.0e-5 : tensor<4x8xf32> -> tensor<4x8x!ternary.trit>, tensor<f32>
  func.return %s : tensor<f32>
}
