// RUN: sterna-opt %s -p fuse-thresholds --weights random | filecheck %s

#rows = affine_map<(t, m) -> (t, m)>
#channel = affine_map<(t, m) -> (m)>
#turned = affine_map<(m, t) -> (t, m)>

// acc in [-8, 8]; clamp(round(acc * 0.25)), and for the second channel the same of -acc.
// CHECK-LABEL: func.func @rounded
// CHECK: [[SIGNS:%.*]] = arith.constant dense<[1.000000e+00, -1.000000e+00]> : tensor<2xf32>
// CHECK: arith.mulf %w
// CHECK: [[TRITS:%.*]], {{%.*}} = ternary.ternarize
// CHECK: [[ACC:%.*]] = ternary.accumulate %q, [[TRITS]]
// CHECK: [[STEPS:%.*]] = arith.constant dense<{{\[}}[-2, 3], [-2, 3]]> : tensor<2x2xi32>
// CHECK: [[Y:%.*]] = ternary.threshold [[ACC]], [[STEPS]] base = -1 : tensor<?x2xi32>, tensor<2x2xi32> -> tensor<?x2xi8>
// CHECK: func.return [[Y]]
func.func @rounded(%bits : tensor<?x8xi1>, %init : tensor<?x8xi8>, %out : tensor<?x2xi8>) -> tensor<?x2xi8> {
  %q = linalg.generic {indexing_maps = [#rows, #rows], iterator_types = ["parallel", "parallel"]} ins(%bits : tensor<?x8xi1>) outs(%init : tensor<?x8xi8>) {
  ^bb0(%a : i1, %o : i8):
    %plus = arith.constant 1 : i8
    %minus = arith.constant -1 : i8
    %s = arith.select %a, %plus, %minus : i8
    linalg.yield %s : i8
  } -> tensor<?x8xi8>
  %w = arith.constant dense<1.0> : tensor<2x8xf32>
  %t, %u = ternary.ternarize %w : tensor<2x8xf32> -> tensor<2x8x!ternary.trit>, tensor<f32>
  %acc = ternary.accumulate %q, %t : tensor<?x8xi8>, tensor<2x8x!ternary.trit> -> tensor<?x2xi32>
  %gain = arith.constant dense<[0.25, -0.25]> : tensor<2xf32>
  %y = linalg.generic {indexing_maps = [#rows, #channel, #rows], iterator_types = ["parallel", "parallel"]} ins(%acc, %gain : tensor<?x2xi32>, tensor<2xf32>) outs(%out : tensor<?x2xi8>) {
  ^bb0(%a : i32, %g : f32, %o : i8):
    %low = arith.constant -1.0 : f32
    %high = arith.constant 1.0 : f32
    %f = arith.sitofp %a : i32 to f32
    %s = arith.mulf %f, %g : f32
    %r = math.roundeven %s : f32
    %l = arith.maximumf %r, %low : f32
    %h = arith.minimumf %l, %high : f32
    %i = arith.fptosi %h : f32 to i8
    linalg.yield %i : i8
  } -> tensor<?x2xi8>
  func.return %y : tensor<?x2xi8>
}

// A square falls, and then rises: it stays as it is.
// CHECK-LABEL: func.func @square
// CHECK-NOT: ternary.threshold
func.func @square(%q : tensor<?x8xi8>, %out : tensor<?x2xi8>) -> tensor<?x2xi8> {
  %w = arith.constant dense<1.0> : tensor<2x8xf32>
  %t, %u = ternary.ternarize %w : tensor<2x8xf32> -> tensor<2x8x!ternary.trit>, tensor<f32>
  %acc = ternary.accumulate %q, %t : tensor<?x8xi8>, tensor<2x8x!ternary.trit> -> tensor<?x2xi32>
  %y = linalg.generic {indexing_maps = [#rows, #rows], iterator_types = ["parallel", "parallel"]} ins(%acc : tensor<?x2xi32>) outs(%out : tensor<?x2xi8>) {
  ^bb0(%a : i32, %o : i8):
    %high = arith.constant 3 : i32
    %s = arith.muli %a, %a : i32
    %h = arith.minsi %s, %high : i32
    %i = arith.trunci %h : i32 to i8
    linalg.yield %i : i8
  } -> tensor<?x2xi8>
  func.return %y : tensor<?x2xi8>
}

// What is written with its axes turned is a threshold, and then turned.
// CHECK-LABEL: func.func @turned
// CHECK: [[Y:%.*]] = ternary.threshold {{.*}} -> tensor<?x2xi8>
// CHECK: linalg.transpose ins([[Y]]:tensor<?x2xi8>) outs({{%.*}}:tensor<2x?xi8>) permutation = [1, 0]
func.func @turned(%q : tensor<?x8xi8>, %out : tensor<2x?xi8>) -> tensor<2x?xi8> {
  %w = arith.constant dense<1.0> : tensor<2x8xf32>
  %t, %u = ternary.ternarize %w : tensor<2x8xf32> -> tensor<2x8x!ternary.trit>, tensor<f32>
  %acc = ternary.accumulate %q, %t : tensor<?x8xi8>, tensor<2x8x!ternary.trit> -> tensor<?x2xi32>
  %y = linalg.generic {indexing_maps = [#turned, #rows], iterator_types = ["parallel", "parallel"]} ins(%acc : tensor<?x2xi32>) outs(%out : tensor<2x?xi8>) {
  ^bb0(%a : i32, %o : i8):
    %zero = arith.constant 0 : i32
    %plus = arith.constant 1 : i8
    %minus = arith.constant -1 : i8
    %c = arith.cmpi sge, %a, %zero : i32
    %s = arith.select %c, %plus, %minus : i8
    linalg.yield %s : i8
  } -> tensor<2x?xi8>
  func.return %y : tensor<2x?xi8>
}
