// RUN: not sterna-opt %s -p to-fixed-point --weights random 2>&1 | filecheck %s

ternary.weight @gain : tensor<8xf32>
func.func @forward(%x: tensor<?x8xf32>) -> tensor<?x8xi8> {
  %q, %step = ternary.quantize %x eps = 1.0e-5 : tensor<?x8xf32> -> tensor<?x8xi8>, tensor<?xf32>
  func.return %q : tensor<?x8xi8>
}
// CHECK: ternary.quantize: fixed point has no form of it
