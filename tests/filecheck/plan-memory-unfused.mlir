// RUN: not sterna-opt %s -p plan-memory 2>&1 | filecheck %s
// CHECK: 2 operations are not part of any fused kernel: arith.negf; tensor.extract_slice

func.func @forward(%x: tensor<4x8xf32>) -> tensor<2x8xf32> {
  %0 = arith.negf %x : tensor<4x8xf32>
  %1 = tensor.extract_slice %0[0, 0] [2, 8] [1, 1] : tensor<4x8xf32> to tensor<2x8xf32>
  func.return %1 : tensor<2x8xf32>
}
