// RUN: sterna-opt %s -p raise-ternary-products --weights random | filecheck %s
// RUN: sterna-opt %s -p raise-ternary-products | filecheck %s --check-prefix=UNREAD

#same = affine_map<(m, k) -> (m, k)>
#rows = affine_map<(t, g, m, k) -> (t, g, k)>
#by_group = affine_map<(t, g, m, k) -> (g, m, k)>
#out = affine_map<(t, g, m, k) -> (t, g, m)>

ternary.weight @w : tensor<4x8xf32>
ternary.weight @binary : tensor<4x8xf32> {
  %w = ternary.load @w : tensor<4x8xf32>
  %b = linalg.generic {indexing_maps = [#same, #same], iterator_types = ["parallel", "parallel"]} ins(%w : tensor<4x8xf32>) outs(%w : tensor<4x8xf32>) {
  ^bb0(%a : f32, %o : f32):
    %zero = arith.constant 0.0 : f32
    %half = arith.constant 0.5 : f32
    %minus_half = arith.constant -0.5 : f32
    %c = arith.cmpf oge, %a, %zero : f32
    %s = arith.select %c, %half, %minus_half : f32
    linalg.yield %s : f32
  } -> tensor<4x8xf32>
  ternary.yield %b : tensor<4x8xf32>
}

// Rows of floats: additions of floats, then the scale.
// CHECK-LABEL: func.func @weight_only
// CHECK: [[TRITS:%.*]], [[SCALE:%.*]] = ternary.ternarize %w : tensor<4x8xf32> -> tensor<4x8x!ternary.bit>, tensor<f32>
// CHECK: [[ACC:%.*]] = ternary.accumulate %x, [[TRITS]] : tensor<?x8xf32>, tensor<4x8x!ternary.bit> -> tensor<?x4xf32>
// CHECK: arith.mulf [[ACC]]

// Without numbers nothing is known to be ternary.
// UNREAD-LABEL: func.func @weight_only
// UNREAD: linalg.matmul
func.func @weight_only(%x : tensor<?x8xf32>, %init : tensor<?x4xf32>) -> tensor<?x4xf32> {
  %w = ternary.load @binary : tensor<4x8xf32>
  %e = tensor.empty() : tensor<8x4xf32>
  %t = linalg.transpose ins(%w : tensor<4x8xf32>) outs(%e : tensor<8x4xf32>) permutation = [1, 0]
  %y = linalg.matmul ins(%x, %t : tensor<?x8xf32>, tensor<8x4xf32>) outs(%init : tensor<?x4xf32>) -> tensor<?x4xf32>
  func.return %y : tensor<?x4xf32>
}

// int8 by a constant step, with a zero point: integers, less the sums of the trits.
// CHECK-LABEL: func.func @quantized
// CHECK: [[ACC:%.*]] = ternary.accumulate %q, [[TRITS:%.*]] groups = 2 : tensor<?x16xi8>, tensor<4x8x!ternary.bit> -> tensor<?x4xi32>
// CHECK: [[ZEROS:%.*]] = arith.constant dense<3> : tensor<16xi8>
// CHECK: [[SUMS:%.*]] = ternary.accumulate [[ZEROS]], [[TRITS]] groups = 2 : tensor<16xi8>
// CHECK: [[REST:%.*]] = arith.subi [[ACC]]
// CHECK: [[STEP:%.*]] = arith.constant dense<1.250000e-01> : tensor<f32>
// CHECK: ternary.dequantize [[REST]], [[STEP]], {{%.*}} : tensor<?x4xi32>, tensor<f32>, tensor<f32> -> tensor<?x4xf32>
func.func @quantized(%q : tensor<?x16xi8>, %floats : tensor<?x16xf32>, %init : tensor<?x2x2xf32>, %rows : index) -> tensor<?x2x2xf32> {
  %w = ternary.load @binary : tensor<4x8xf32>
  %by_group = tensor.expand_shape %w [[0, 1], [2]] output_shape [2, 2, 8] : tensor<4x8xf32> into tensor<2x2x8xf32>
  %x = linalg.generic {indexing_maps = [#same, #same], iterator_types = ["parallel", "parallel"]} ins(%q : tensor<?x16xi8>) outs(%floats : tensor<?x16xf32>) {
  ^bb0(%a : i8, %o : f32):
    %zero_point = arith.constant 3.0 : f32
    %step = arith.constant 0.125 : f32
    %f = arith.sitofp %a : i8 to f32
    %c = arith.subf %f, %zero_point : f32
    %s = arith.mulf %c, %step : f32
    linalg.yield %s : f32
  } -> tensor<?x16xf32>
  %groups = tensor.expand_shape %x [[0], [1, 2]] output_shape [%rows, 2, 8] : tensor<?x16xf32> into tensor<?x2x8xf32>
  %y = linalg.generic {indexing_maps = [#rows, #by_group, #out], iterator_types = ["parallel", "parallel", "parallel", "reduction"]} ins(%groups, %by_group : tensor<?x2x8xf32>, tensor<2x2x8xf32>) outs(%init : tensor<?x2x2xf32>) {
  ^bb0(%a : f32, %b : f32, %acc : f32):
    %p = arith.mulf %a, %b : f32
    %s = arith.addf %acc, %p : f32
    linalg.yield %s : f32
  } -> tensor<?x2x2xf32>
  func.return %y : tensor<?x2x2xf32>
}

// A weight of many magnitudes stays what it is.
// CHECK-LABEL: func.func @float
// CHECK: linalg.matmul
func.func @float(%x : tensor<4x4xf32>, %init : tensor<4x8xf32>) -> tensor<4x8xf32> {
  %w = ternary.load @w : tensor<4x8xf32>
  %y = linalg.matmul ins(%x, %w : tensor<4x4xf32>, tensor<4x8xf32>) outs(%init : tensor<4x8xf32>) -> tensor<4x8xf32>
  func.return %y : tensor<4x8xf32>
}
