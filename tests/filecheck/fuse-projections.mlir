// RUN: sterna-opt %s -p fuse-projections | filecheck %s

ternary.weight @w0 : tensor<4x8x!ternary.trit>
ternary.weight @w1 : tensor<4x8x!ternary.trit>
ternary.weight @s0 : tensor<f32>
ternary.weight @s1 : tensor<f32>

ternary.weight @both : tensor<6x8x!ternary.trit>
// CHECK:      ternary.weight @both.0 : tensor<3x8x!ternary.trit> {
// CHECK-NEXT:   %[[W:.*]] = ternary.load @both : tensor<6x8x!ternary.trit>
// CHECK-NEXT:   %[[H:.*]] = tensor.extract_slice %[[W]][0, 0] [3, 8] [1, 1]
// CHECK-NEXT:   ternary.yield %[[H]]
// CHECK:      ternary.weight @both.1 : tensor<3x8x!ternary.trit> {
// CHECK:        tensor.extract_slice %{{.*}}[3, 0] [3, 8] [1, 1]

// Two projections of one quantized input, with a reader between them, are one op where the first stood.
// CHECK-LABEL: func.func @same_input
// CHECK:         %y0, %y1 = ternary.project quantized(%q : tensor<?x8xi8>) steps(%d : tensor<?xf32>) weights(%{{.*}}, %{{.*}} : tensor<4x8x!ternary.trit>, tensor<4x8x!ternary.trit>) scales(%{{.*}}, %{{.*}} : tensor<f32>, tensor<f32>) reads = [0, 0] {
// CHECK-NEXT:    ^bb{{.*}}(%[[A:.*]]: f32, %[[B:.*]]: f32):
// CHECK-NEXT:      ternary.yield %[[A]], %[[B]] : f32, f32
// CHECK-NEXT:    } -> tensor<?x4xf32>, tensor<?x4xf32>
// CHECK-NEXT:    %z = arith.negf %y0
// CHECK-NEXT:    func.return %z, %y1
func.func @same_input(%x: tensor<?x8xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
  %q, %d = ternary.quantize %x eps = 1.0e-05 : tensor<?x8xf32> -> tensor<?x8xi8>, tensor<?xf32>
  %w0 = ternary.load @w0 : tensor<4x8x!ternary.trit>
  %s0 = ternary.load @s0 : tensor<f32>
  %a0 = ternary.accumulate %q, %w0 : tensor<?x8xi8>, tensor<4x8x!ternary.trit> -> tensor<?x4xi32>
  %y0 = ternary.dequantize %a0, %d, %s0 : tensor<?x4xi32>, tensor<?xf32>, tensor<f32> -> tensor<?x4xf32>
  %z = arith.negf %y0 : tensor<?x4xf32>
  %w1 = ternary.load @w1 : tensor<4x8x!ternary.trit>
  %s1 = ternary.load @s1 : tensor<f32>
  %a1 = ternary.accumulate %q, %w1 : tensor<?x8xi8>, tensor<4x8x!ternary.trit> -> tensor<?x4xi32>
  %y1 = ternary.dequantize %a1, %d, %s1 : tensor<?x4xi32>, tensor<?xf32>, tensor<f32> -> tensor<?x4xf32>
  func.return %z, %y1 : tensor<?x4xf32>, tensor<?x4xf32>
}

// The two quantized results of one norm_quantize go together.
// CHECK-LABEL: func.func @same_norm
// CHECK:         ternary.project quantized(%q0, %q1 : {{.*}}) steps(%d0, %d1 : {{.*}}) {{.*}} reads = [0, 1]
func.func @same_norm(%x: tensor<?x8xf32>, %g0: tensor<8xf32>, %g1: tensor<8xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
  %q0, %q1, %d0, %d1 = ternary.norm_quantize %x gains(%g0, %g1 : tensor<8xf32>, tensor<8xf32>) eps = 1.0e-08 quantize_eps = 1.0e-05 lanes = 16 : tensor<?x8xf32> -> (tensor<?x8xi8>, tensor<?x8xi8>), (tensor<?xf32>, tensor<?xf32>)
  %w0 = ternary.load @w0 : tensor<4x8x!ternary.trit>
  %s0 = ternary.load @s0 : tensor<f32>
  %a0 = ternary.accumulate %q0, %w0 : tensor<?x8xi8>, tensor<4x8x!ternary.trit> -> tensor<?x4xi32>
  %y0 = ternary.dequantize %a0, %d0, %s0 : tensor<?x4xi32>, tensor<?xf32>, tensor<f32> -> tensor<?x4xf32>
  %w1 = ternary.load @w1 : tensor<4x8x!ternary.trit>
  %s1 = ternary.load @s1 : tensor<f32>
  %a1 = ternary.accumulate %q1, %w1 : tensor<?x8xi8>, tensor<4x8x!ternary.trit> -> tensor<?x4xi32>
  %y1 = ternary.dequantize %a1, %d1, %s1 : tensor<?x4xi32>, tensor<?xf32>, tensor<f32> -> tensor<?x4xf32>
  func.return %y0, %y1 : tensor<?x4xf32>, tensor<?x4xf32>
}

// Halves of a result become two projections, whose weights are rows of the matrix.
// CHECK-LABEL: func.func @halves
// CHECK:         %[[G:.*]] = ternary.load @both.0
// CHECK:         %[[U:.*]] = ternary.load @both.1
// CHECK:         ternary.project {{.*}} weights(%[[G]], %[[U]] : {{.*}}) scales(%[[S:.*]], %[[S]] : {{.*}} reads = [0, 0]
// CHECK-NOT:     extract_slice
func.func @halves(%x: tensor<?x8xf32>) -> (tensor<?x3xf32>, tensor<?x3xf32>) {
  %c0 = arith.constant 0 : index
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %q, %d = ternary.quantize %x eps = 1.0e-05 : tensor<?x8xf32> -> tensor<?x8xi8>, tensor<?xf32>
  %w = ternary.load @both : tensor<6x8x!ternary.trit>
  %s = ternary.load @s0 : tensor<f32>
  %a = ternary.accumulate %q, %w : tensor<?x8xi8>, tensor<6x8x!ternary.trit> -> tensor<?x6xi32>
  %y = ternary.dequantize %a, %d, %s : tensor<?x6xi32>, tensor<?xf32>, tensor<f32> -> tensor<?x6xf32>
  %gate = tensor.extract_slice %y[0, 0] [%T, 3] [1, 1] : tensor<?x6xf32> to tensor<?x3xf32>
  %up = tensor.extract_slice %y[0, 3] [%T, 3] [1, 1] : tensor<?x6xf32> to tensor<?x3xf32>
  func.return %gate, %up : tensor<?x3xf32>, tensor<?x3xf32>
}

// Slices that overlap would be computed twice: the projection stays whole.
// CHECK-LABEL: func.func @overlap
// CHECK:         ternary.project {{.*}} weights(%{{.*}} : tensor<6x8x!ternary.trit>)
// CHECK:         tensor.extract_slice
// CHECK:         tensor.extract_slice
func.func @overlap(%x: tensor<?x8xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
  %c0 = arith.constant 0 : index
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %q, %d = ternary.quantize %x eps = 1.0e-05 : tensor<?x8xf32> -> tensor<?x8xi8>, tensor<?xf32>
  %w = ternary.load @both : tensor<6x8x!ternary.trit>
  %s = ternary.load @s0 : tensor<f32>
  %a = ternary.accumulate %q, %w : tensor<?x8xi8>, tensor<6x8x!ternary.trit> -> tensor<?x6xi32>
  %y = ternary.dequantize %a, %d, %s : tensor<?x6xi32>, tensor<?xf32>, tensor<f32> -> tensor<?x6xf32>
  %first = tensor.extract_slice %y[0, 0] [%T, 4] [1, 1] : tensor<?x6xf32> to tensor<?x4xf32>
  %last = tensor.extract_slice %y[0, 2] [%T, 4] [1, 1] : tensor<?x6xf32> to tensor<?x4xf32>
  func.return %first, %last : tensor<?x4xf32>, tensor<?x4xf32>
}

// Different widths, or inputs that were quantized apart, are different ops.
// CHECK-LABEL: func.func @apart
// CHECK-COUNT-3: ternary.project
func.func @apart(%x: tensor<?x8xf32>, %z: tensor<?x8xf32>) -> (tensor<?x4xf32>, tensor<?x6xf32>, tensor<?x4xf32>) {
  %q, %d = ternary.quantize %x eps = 1.0e-05 : tensor<?x8xf32> -> tensor<?x8xi8>, tensor<?xf32>
  %w0 = ternary.load @w0 : tensor<4x8x!ternary.trit>
  %s0 = ternary.load @s0 : tensor<f32>
  %a0 = ternary.accumulate %q, %w0 : tensor<?x8xi8>, tensor<4x8x!ternary.trit> -> tensor<?x4xi32>
  %y0 = ternary.dequantize %a0, %d, %s0 : tensor<?x4xi32>, tensor<?xf32>, tensor<f32> -> tensor<?x4xf32>
  %w1 = ternary.load @both : tensor<6x8x!ternary.trit>
  %a1 = ternary.accumulate %q, %w1 : tensor<?x8xi8>, tensor<6x8x!ternary.trit> -> tensor<?x6xi32>
  %y1 = ternary.dequantize %a1, %d, %s0 : tensor<?x6xi32>, tensor<?xf32>, tensor<f32> -> tensor<?x6xf32>
  %q2, %d2 = ternary.quantize %z eps = 1.0e-05 : tensor<?x8xf32> -> tensor<?x8xi8>, tensor<?xf32>
  %a2 = ternary.accumulate %q2, %w0 : tensor<?x8xi8>, tensor<4x8x!ternary.trit> -> tensor<?x4xi32>
  %y2 = ternary.dequantize %a2, %d2, %s0 : tensor<?x4xi32>, tensor<?xf32>, tensor<f32> -> tensor<?x4xf32>
  func.return %y0, %y1, %y2 : tensor<?x4xf32>, tensor<?x6xf32>, tensor<?x4xf32>
}
