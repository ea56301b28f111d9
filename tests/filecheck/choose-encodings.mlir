// RUN: sterna-opt %s -p choose-encodings | filecheck %s
// RUN: sterna-opt %s -p 'choose-encodings{encoding=b3}' | filecheck %s --check-prefix=BASE3
// RUN: not sterna-opt %s -p 'choose-encodings{encoding=b4}' 2>&1 | filecheck %s --check-prefix=UNKNOWN

// UNKNOWN: choose-encodings: unknown encoding 'b4', expected one of i2, b3

// CHECK: ternary.weight @w : tensor<4x8xf32>
ternary.weight @w : tensor<4x8xf32>
// Only what a function loads is packed; the matrix that a slice is taken from is not.
// CHECK: ternary.weight @trits : tensor<4x8x!ternary.trit> {
ternary.weight @trits : tensor<4x8x!ternary.trit> {
  %w = ternary.load @w : tensor<4x8xf32>
  %t, %s = ternary.ternarize %w : tensor<4x8xf32> -> tensor<4x8x!ternary.trit>, tensor<f32>
  ternary.yield %t : tensor<4x8x!ternary.trit>
}
// CHECK: ternary.weight @half : tensor<2x8x!ternary.trit, #ternary.encoding<i2, tile = [4, 256]>> {
ternary.weight @half : tensor<2x8x!ternary.trit> {
  // CHECK: ternary.load @trits : tensor<4x8x!ternary.trit>
  %t = ternary.load @trits : tensor<4x8x!ternary.trit>
  %h = tensor.extract_slice %t[0, 0] [2, 8] [1, 1] : tensor<4x8x!ternary.trit> to tensor<2x8x!ternary.trit>
  // CHECK: ternary.yield %{{.*}} : tensor<2x8x!ternary.trit>
  ternary.yield %h : tensor<2x8x!ternary.trit>
}

// BASE3: ternary.load @half : tensor<2x8x!ternary.trit, #ternary.encoding<b3, tile = [4, 80]>>
// CHECK: ternary.load @half : tensor<2x8x!ternary.trit, #ternary.encoding<i2, tile = [4, 256]>>
func.func @forward(%q: tensor<?x8xi8>) -> tensor<?x2xi32> {
  %w = ternary.load @half : tensor<2x8x!ternary.trit>
  %a = ternary.accumulate %q, %w : tensor<?x8xi8>, tensor<2x8x!ternary.trit> -> tensor<?x2xi32>
  func.return %a : tensor<?x2xi32>
}
