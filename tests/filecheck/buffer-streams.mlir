// RUN: sterna-opt %s -p convert-fixed-to-stream,buffer-streams | filecheck %s

ternary.weight @table : tensor<16x8xi14>
ternary.weight @w : tensor<6x8x!ternary.trit>
func.func @forward(%tokens: tensor<?xi64>, %state: tensor<6xf32>) -> (tensor<?x6xf32>, tensor<6xf32>)
    attributes {sterna.states = 1 : i64} {
  %t = ternary.load @table : tensor<16x8xi14>
  %x = ternary.embedding %tokens, %t : tensor<?xi64>, tensor<16x8xi14> -> tensor<?x8xi14>
  %most = fixed.max %x : tensor<?x8xi14> -> tensor<?xi14>
  %q = ternary.elementwise(%x, %most : tensor<?x8xi14>, tensor<?xi14>) axes = [array<i64: 0, 1>, array<i64: 0>] {
  ^bb0(%a: i14, %m: i14):
    %least = arith.minsi %a, %m : i14
    %y = fixed.rescale %least by 6 : i14 to i8
    ternary.yield %y : i8
  } -> tensor<?x8xi8>
  %w = ternary.load @w : tensor<6x8x!ternary.trit>
  %acc = ternary.accumulate %q, %w : tensor<?x8xi8>, tensor<6x8x!ternary.trit> -> tensor<?x6xi12>
  %init = fixed.from_float %state : tensor<6xf32> -> tensor<6xi16, #fixed.point<8>>
  %s, %last = fixed.scan %acc, %acc, %init by 11 : tensor<?x6xi12>, tensor<?x6xi12>, tensor<6xi16, #fixed.point<8>>
    -> tensor<?x6xi16, #fixed.point<8>>, tensor<6xi16, #fixed.point<8>>
  %logits = fixed.to_float %s : tensor<?x6xi16, #fixed.point<8>> -> tensor<?x6xf32>
  %out = fixed.to_float %last : tensor<6xi16, #fixed.point<8>> -> tensor<6xf32>
  func.return %logits, %out : tensor<?x6xf32>, tensor<6xf32>
}

// The row waits for its maximum: one reader takes it at once, the other a row later.
// CHECK: %x_copy0, %x_copy1 = stream.fork %x
// CHECK-DAG: %x_copy0_queued = stream.fifo %x_copy0 depth 4
// CHECK-DAG: %x_copy1_queued = stream.fifo %x_copy1 depth 10
// CHECK: stream.reduce "max" %x_copy0_queued
// CHECK: stream.map(%x_copy1_queued, %most_queued
