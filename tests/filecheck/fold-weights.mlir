// RUN: sterna-opt %s -p fold-weights | filecheck %s

// CHECK:      ternary.weight @proj.weight : tensor<4x8xf32>
// CHECK-NEXT: ternary.weight @bounds : tensor<2x4xf32>

// The unused weight is gone.
// CHECK-NOT:  @unused

// The scales and trits that an absmean makes are named after its weight.
// CHECK:      ternary.weight @proj.trits : tensor<4x8x!ternary.trit> {
// CHECK-NEXT:   %w = ternary.load @proj.weight : tensor<4x8xf32>
// CHECK-NEXT:   %t, %s = ternary.absmean %w eps = 1.000000e-05
// CHECK-NEXT:   ternary.yield %t : tensor<4x8x!ternary.trit>
// CHECK-NEXT: }
// CHECK-NEXT: ternary.weight @proj.scale : tensor<f32> {

// What two derived weights are computed from is a weight of its own.
// CHECK:      ternary.weight @bounds.folded : tensor<2x4xf32> {
// CHECK:        math.exp
// CHECK:      ternary.weight @bounds.folded.1 : tensor<4xf32> {
// CHECK-NEXT:   %e = ternary.load @bounds.folded : tensor<2x4xf32>
// CHECK-NEXT:   %b0 = tensor.extract_slice
// CHECK:      ternary.weight @bounds.folded.2 : tensor<4xf32> {
// CHECK-NEXT:   %e = ternary.load @bounds.folded : tensor<2x4xf32>

// A constant of several numbers is a weight; one of a single number stays.
// CHECK:      ternary.weight @constant.folded : tensor<4xf32> {
// CHECK-NEXT:   %table = arith.constant dense<[1.000000e+00, 2.000000e+00, 3.000000e+00, 4.000000e+00]>

ternary.weight @proj.weight : tensor<4x8xf32>
ternary.weight @bounds : tensor<2x4xf32>
ternary.weight @unused : tensor<3xf32>

// CHECK:      func.func @forward(%q: tensor<?x8xi8>, %step: tensor<?xf32>)
func.func @forward(%q: tensor<?x8xi8>, %step: tensor<?xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
  %c0 = arith.constant 0 : index
  %T = tensor.dim %q, %c0 : tensor<?x8xi8>
  %w = ternary.load @proj.weight : tensor<4x8xf32>
  %t, %s = ternary.absmean %w eps = 1.0e-05 : tensor<4x8xf32> -> tensor<4x8x!ternary.trit>, tensor<f32>
  // CHECK:      %[[T:.*]] = ternary.load @proj.trits : tensor<4x8x!ternary.trit>
  // CHECK-NEXT: %[[S:.*]] = ternary.load @proj.scale : tensor<f32>
  // CHECK-NEXT: %acc = ternary.accumulate %q, %[[T]]
  // CHECK-NEXT: %y = ternary.dequantize %acc, %step, %[[S]]
  %acc = ternary.accumulate %q, %t : tensor<?x8xi8>, tensor<4x8x!ternary.trit> -> tensor<?x4xi32>
  %y = ternary.dequantize %acc, %step, %s : tensor<?x4xi32>, tensor<?xf32>, tensor<f32> -> tensor<?x4xf32>
  %b = ternary.load @bounds : tensor<2x4xf32>
  %e = math.exp %b : tensor<2x4xf32>
  %b0 = tensor.extract_slice %e[0, 0] [1, 4] [1, 1] : tensor<2x4xf32> to tensor<4xf32>
  %b1 = tensor.extract_slice %e[1, 0] [1, 4] [1, 1] : tensor<2x4xf32> to tensor<4xf32>
  // Equal computations are one weight, and a broadcast to rows stays where it is.
  // CHECK-NOT: math.exp
  // CHECK:      %[[B0:.*]] = ternary.load @bounds.folded.1 : tensor<4xf32>
  // CHECK-NEXT: %[[B1:.*]] = ternary.load @bounds.folded.2 : tensor<4xf32>
  // CHECK:      linalg.broadcast ins(%[[B0]]:tensor<4xf32>)
  // CHECK-NEXT: linalg.broadcast ins(%[[B1]]:tensor<4xf32>)
  // CHECK-NEXT: linalg.broadcast ins(%[[B0]]:tensor<4xf32>)
  %b2 = tensor.extract_slice %e[0, 0] [1, 4] [1, 1] : tensor<2x4xf32> to tensor<4xf32>
  %init = tensor.empty(%T) : tensor<?x4xf32>
  %r0 = linalg.broadcast ins(%b0:tensor<4xf32>) outs(%init:tensor<?x4xf32>) dimensions = [0]
  %r1 = linalg.broadcast ins(%b1:tensor<4xf32>) outs(%init:tensor<?x4xf32>) dimensions = [0]
  %r2 = linalg.broadcast ins(%b2:tensor<4xf32>) outs(%init:tensor<?x4xf32>) dimensions = [0]
  // CHECK:     ternary.load @constant.folded : tensor<4xf32>
  %table = arith.constant dense<[1.0, 2.0, 3.0, 4.0]> : tensor<4xf32>
  %rt = linalg.broadcast ins(%table:tensor<4xf32>) outs(%init:tensor<?x4xf32>) dimensions = [0]
  %one = arith.constant 1.0 : f32
  // CHECK:     tensor.splat %one[%T] : tensor<?x4xf32>
  %ones = tensor.splat %one[%T] : tensor<?x4xf32>
  %z0 = arith.mulf %y, %r0 : tensor<?x4xf32>
  %z1 = arith.addf %z0, %r1 : tensor<?x4xf32>
  %z2 = arith.addf %z1, %r2 : tensor<?x4xf32>
  %z3 = arith.addf %z2, %rt : tensor<?x4xf32>
  %z4 = arith.addf %z3, %ones : tensor<?x4xf32>
  func.return %y, %z4 : tensor<?x4xf32>, tensor<?x4xf32>
}
