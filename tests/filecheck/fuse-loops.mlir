// RUN: sterna-opt %s -p fuse-loops | filecheck %s

// A comparison and a choice join what they read; a broadcast is read where it is, a constant is a number.
// CHECK: func.func @masked
// CHECK-NEXT: %y = ternary.elementwise(%x, %bias : tensor<?x4x8xf32>, tensor<4xf32>) axes = [array<i64: 0, 1, 2>, array<i64: 1>] {
// CHECK-NEXT: ^bb0(%{{.*}}: f32, %{{.*}}: f32):
// CHECK-NEXT: arith.addf
// CHECK: arith.cmpf ogt
// CHECK: arith.select
// CHECK-NEXT: ternary.yield
// CHECK-NEXT: } -> tensor<?x4x8xf32>
// CHECK-NEXT: func.return %y
#full = affine_map<(a, b, c) -> (a, b, c)>
func.func @masked(%x : tensor<?x4x8xf32>, %bias : tensor<4xf32>) -> tensor<?x4x8xf32> {
  %zero = arith.constant 0 : index
  %T = tensor.dim %x, %zero : tensor<?x4x8xf32>
  %e = tensor.empty(%T) : tensor<?x4x8xf32>
  %f = tensor.empty(%T) : tensor<?x4x8xi1>
  %b = linalg.broadcast ins(%bias : tensor<4xf32>) outs(%e : tensor<?x4x8xf32>) dimensions = [0, 2]
  %s = arith.addf %x, %b : tensor<?x4x8xf32>
  %half = arith.constant 0.5 : f32
  %halves = tensor.splat %half[%T] : tensor<?x4x8xf32>
  %m = linalg.generic {indexing_maps = [#full, #full, #full], iterator_types = ["parallel", "parallel", "parallel"]}
    ins(%s, %halves : tensor<?x4x8xf32>, tensor<?x4x8xf32>) outs(%f : tensor<?x4x8xi1>) {
  ^bb0(%p : f32, %q : f32, %o : i1):
    %r = arith.cmpf ogt, %p, %q : f32
    linalg.yield %r : i1
  } -> tensor<?x4x8xi1>
  %y = linalg.generic {indexing_maps = [#full, #full, #full, #full], iterator_types = ["parallel", "parallel", "parallel"]}
    ins(%m, %s, %x : tensor<?x4x8xi1>, tensor<?x4x8xf32>, tensor<?x4x8xf32>) outs(%e : tensor<?x4x8xf32>) {
  ^bb0(%k : i1, %p : f32, %q : f32, %o : f32):
    %r = arith.select %k, %p, %q : f32
    linalg.yield %r : f32
  } -> tensor<?x4x8xf32>
  func.return %y : tensor<?x4x8xf32>
}

// What something else reads is computed once.
// CHECK: func.func @read_twice
// CHECK: %s = ternary.elementwise
// CHECK: %u = ternary.elementwise(%s : tensor<4x2xi32>) axes = [array<i64: 1, 0>] {
// CHECK: func.return %s, %u
func.func @read_twice(%x : tensor<4x2xi32>) -> (tensor<4x2xi32>, tensor<2x4xi32>) {
  %e = tensor.empty() : tensor<2x4xi32>
  %s = arith.addi %x, %x : tensor<4x2xi32>
  %t = linalg.transpose ins(%s : tensor<4x2xi32>) outs(%e : tensor<2x4xi32>) permutation = [1, 0]
  %u = arith.muli %t, %t : tensor<2x4xi32>
  func.return %s, %u : tensor<4x2xi32>, tensor<2x4xi32>
}
