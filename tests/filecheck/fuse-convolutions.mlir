// RUN: sterna-opt %s -p fuse-convolutions | filecheck %s

// CHECK-LABEL: func.func @channels_first
// CHECK-NEXT: [[ACC:%.*]] = ternary.convolve %x, %w leading = 1 axes = [2, 3] sizes = [3, 3] strides = [2, 1] dilations = [1, 1] low = [1, 0] high = [1, 0] padding = 7 : i8 : tensor<?x2x9x8xi8>, tensor<4x18x!ternary.trit> -> tensor<?x5x6x4xi32>
// CHECK-NEXT: func.return [[ACC]]
func.func @channels_first(%x : tensor<?x2x9x8xi8>, %w : tensor<4x18x!ternary.trit>) -> tensor<?x5x6x4xi32> {
  %k = ternary.windows %x leading = 1 axes = [2, 3] sizes = [3, 3] strides = [2, 1] dilations = [1, 1] low = [1, 0] high = [1, 0] padding = 7 : i8 : tensor<?x2x9x8xi8> -> tensor<?x5x6x2x3x3xi8>
  %c = tensor.collapse_shape %k [[0], [1], [2], [3, 4, 5]] : tensor<?x5x6x2x3x3xi8> into tensor<?x5x6x18xi8>
  %acc = ternary.accumulate %c, %w : tensor<?x5x6x18xi8>, tensor<4x18x!ternary.trit> -> tensor<?x5x6x4xi32>
  func.return %acc : tensor<?x5x6x4xi32>
}

// A transposition before the windows is another order of their axes; groups and floats are as they were.
// CHECK-LABEL: func.func @channels_last
// CHECK: ternary.convolve %x, %w groups = 2 leading = 1 axes = [1] sizes = [3] strides = [1] dilations = [2] low = [0] high = [0] padding = 0.000000e+00 : f32 : tensor<?x9x4xf32>
func.func @channels_last(%x : tensor<?x9x4xf32>, %w : tensor<2x6x!ternary.trit>, %init : tensor<?x4x9xf32>) -> tensor<?x5x2xf32> {
  %t = linalg.transpose ins(%x : tensor<?x9x4xf32>) outs(%init : tensor<?x4x9xf32>) permutation = [0, 2, 1]
  %k = ternary.windows %t leading = 1 axes = [2] sizes = [3] strides = [1] dilations = [2] low = [0] high = [0] padding = 0.0 : f32 : tensor<?x4x9xf32> -> tensor<?x5x4x3xf32>
  %c = tensor.collapse_shape %k [[0], [1], [2, 3]] : tensor<?x5x4x3xf32> into tensor<?x5x12xf32>
  %acc = ternary.accumulate %c, %w groups = 2 : tensor<?x5x12xf32>, tensor<2x6x!ternary.trit> -> tensor<?x5x2xf32>
  func.return %acc : tensor<?x5x2xf32>
}

// Windows of which only a part is summed over are no convolution.
// CHECK-LABEL: func.func @each_channel
// CHECK: ternary.windows
// CHECK-NOT: ternary.convolve
func.func @each_channel(%x : tensor<?x4x9xi8>, %w : tensor<2x3x!ternary.trit>) -> tensor<?x7x4x2xi32> {
  %k = ternary.windows %x leading = 1 axes = [2] sizes = [3] strides = [1] dilations = [1] low = [0] high = [0] padding = 0 : i8 : tensor<?x4x9xi8> -> tensor<?x7x4x3xi8>
  %acc = ternary.accumulate %k, %w : tensor<?x7x4x3xi8>, tensor<2x3x!ternary.trit> -> tensor<?x7x4x2xi32>
  func.return %acc : tensor<?x7x4x2xi32>
}
