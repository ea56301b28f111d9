// RUN: sterna-opt %s -p convert-fixed-to-stream | filecheck %s
// RUN: sterna-opt %s -p 'convert-fixed-to-stream{output=logits sequences=4}' | filecheck %s --check-prefix=LOGITS

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

// CHECK-NOT: func.func
// CHECK: stream.pipeline @forward attributes {point = 8 : i64}
// CHECK-NEXT: ^bb0(%tokens: !stream.rows<1 by 1 : i5>, %context: !stream.rows<1 by 1 : i2>):
// CHECK-NEXT: %x = stream.lookup %tokens, @table rows = 16
// CHECK-NEXT: %most = stream.reduce "max" %x
// CHECK-NEXT: %q = stream.map(%x, %most : !stream.rows<8 by 1 : i14>, !stream.rows<1 by 1 : i14>) constants [] {
// CHECK: %acc = stream.array %q, @w design = "adder-tree" {stage = "w"} : !stream.rows<8 by 1 : i8> -> !stream.rows<6 by 1 : i12>
// CHECK-NEXT: %s = stream.scan %context, %acc, %acc by 11 sequences 1
// CHECK-NEXT: %next_token = stream.argmax %s
// CHECK-NEXT: stream.yield %next_token : !stream.rows<1 by 1 : i4>
// LOGITS: ^bb0(%tokens: !stream.rows<1 by 1 : i5>, %context: !stream.rows<1 by 1 : i3>):
// LOGITS: stream.scan %context, %acc, %acc by 11 sequences 4
// LOGITS-NEXT: stream.yield %s : !stream.rows<6 by 1 : i16>
