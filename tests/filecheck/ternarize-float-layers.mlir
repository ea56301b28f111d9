// RUN: sterna-opt %s -p ternarize --weights random | filecheck %s

// Nobody claims that this model is ternary throughout: its float layer stays, and no error is made of it.
// CHECK: linalg.matmul
module attributes {sterna.float_layers} {
  ternary.weight @float : tensor<8x4xf32>
  func.func @forward(%x: tensor<?x8xf32>, %init: tensor<?x4xf32>) -> tensor<?x4xf32> {
    %w = ternary.load @float : tensor<8x4xf32>
    %y = linalg.matmul ins(%x, %w : tensor<?x8xf32>, tensor<8x4xf32>) outs(%init : tensor<?x4xf32>) -> tensor<?x4xf32>
    func.return %y : tensor<?x4xf32>
  }
}
