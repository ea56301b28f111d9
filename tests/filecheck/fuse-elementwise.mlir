// RUN: sterna-opt %s -p fuse-elementwise | filecheck %s

ternary.weight @w : tensor<4x8x!ternary.trit>
ternary.weight @s : tensor<f32>
ternary.weight @b : tensor<4xf32>

// The tail of a projection is its epilogue: a splat is a scalar constant, a broadcast row is read where it is.
// CHECK-LABEL: func.func @epilogue
// CHECK-NOT:     tensor.splat
// CHECK-NOT:     linalg.broadcast
// CHECK:         %[[R:.*]] = ternary.project {{.*}} with(%{{.*}}, %x : tensor<4xf32>, tensor<?x4xf32>) {
// CHECK-NEXT:    ^bb{{.*}}(%[[Y:.*]]: f32, %[[B:.*]]: f32, %[[X:.*]]: f32):
// CHECK-NEXT:      %[[SUM:.*]] = arith.addf %[[Y]], %[[B]] : f32
// CHECK-NEXT:      %[[TWO:.*]] = arith.constant 2.000000e+00 : f32
// CHECK-NEXT:      %[[P:.*]] = arith.mulf %[[TWO]], %[[SUM]] : f32
// CHECK-NEXT:      %[[Q:.*]] = arith.addf %[[P]], %[[X]] : f32
// CHECK-NEXT:      ternary.yield %[[Q]] : f32
// CHECK-NEXT:    } -> tensor<?x4xf32>
// CHECK-NEXT:    func.return %[[R]]
func.func @epilogue(%q: tensor<?x8xi8>, %d: tensor<?xf32>, %x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %c0 = arith.constant 0 : index
  %T = tensor.dim %q, %c0 : tensor<?x8xi8>
  %w = ternary.load @w : tensor<4x8x!ternary.trit>
  %s = ternary.load @s : tensor<f32>
  %y = ternary.project quantized(%q : tensor<?x8xi8>) steps(%d : tensor<?xf32>) weights(%w : tensor<4x8x!ternary.trit>) scales(%s : tensor<f32>) reads = [0] {
  ^bb0(%a: f32):
    ternary.yield %a : f32
  } -> tensor<?x4xf32>
  %b = ternary.load @b : tensor<4xf32>
  %e = tensor.empty(%T) : tensor<?x4xf32>
  %rows = linalg.broadcast ins(%b : tensor<4xf32>) outs(%e : tensor<?x4xf32>) dimensions = [0]
  %sum = arith.addf %y, %rows : tensor<?x4xf32>
  %two = arith.constant 2.0 : f32
  %twos = tensor.splat %two[%T] : tensor<?x4xf32>
  %p = arith.mulf %twos, %sum : tensor<?x4xf32>
  %r = arith.addf %p, %x : tensor<?x4xf32>
  func.return %r : tensor<?x4xf32>
}

// What else reads an intermediate value makes it one more result; what depends on that stays out: no cycle.
// CHECK-LABEL: func.func @around
// CHECK:         %[[Y:.*]], %[[M:.*]] = ternary.project
// CHECK:           ternary.yield
// CHECK:         %[[N:.*]] = ternary.rms_norm %[[Y]]
// CHECK:         %[[E:.*]] = ternary.elementwise(%[[M]], %[[N]] : tensor<?x4xf32>, tensor<?x4xf32>) {
// CHECK-NEXT:    ^bb{{.*}}(%[[A:.*]]: f32, %[[B:.*]]: f32):
// CHECK-NEXT:      arith.mulf %[[A]], %[[B]] : f32
// CHECK:         func.return %[[E]]
func.func @around(%q: tensor<?x8xi8>, %d: tensor<?xf32>) -> tensor<?x4xf32> {
  %w = ternary.load @w : tensor<4x8x!ternary.trit>
  %s = ternary.load @s : tensor<f32>
  %0 = ternary.project quantized(%q : tensor<?x8xi8>) steps(%d : tensor<?xf32>) weights(%w : tensor<4x8x!ternary.trit>) scales(%s : tensor<f32>) reads = [0] {
  ^bb0(%a: f32):
    ternary.yield %a : f32
  } -> tensor<?x4xf32>
  %1 = arith.negf %0 : tensor<?x4xf32>
  %b = ternary.load @b : tensor<4xf32>
  %2 = ternary.rms_norm %0, %b eps = 1.0e-06 lanes = 16 : tensor<?x4xf32>, tensor<4xf32>
  %3 = arith.mulf %1, %2 : tensor<?x4xf32>
  func.return %3 : tensor<?x4xf32>
}

// Two chains that meet are one op, and an operand that comes later than the first of them moves before it.
// CHECK-LABEL: func.func @meet
// CHECK:         %[[N:.*]] = ternary.rms_norm %y
// CHECK-NEXT:    %[[E:.*]] = ternary.elementwise(%x, %[[N]] : {{.*}}) {
// CHECK:           math.exp
// CHECK:           arith.mulf
// CHECK:         func.return %[[E]]
func.func @meet(%x: tensor<?x4xf32>, %y: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %0 = arith.negf %x : tensor<?x4xf32>
  %1 = math.exp %0 : tensor<?x4xf32>
  %b = ternary.load @b : tensor<4xf32>
  %2 = ternary.rms_norm %y, %b eps = 1.0e-06 lanes = 16 : tensor<?x4xf32>, tensor<4xf32>
  %3 = arith.addf %2, %x : tensor<?x4xf32>
  %4 = arith.mulf %1, %3 : tensor<?x4xf32>
  func.return %4 : tensor<?x4xf32>
}

// Integers and broadcast columns are not elementwise on rows of f32: they stay.
// CHECK-LABEL: func.func @stays
// CHECK:         linalg.broadcast
// CHECK:         arith.addi
func.func @stays(%steps: tensor<?xf32>, %x: tensor<?x4xf32>, %i: tensor<?x4xi32>) -> (tensor<?x4xf32>, tensor<?x4xi32>) {
  %c0 = arith.constant 0 : index
  %T = tensor.dim %x, %c0 : tensor<?x4xf32>
  %e = tensor.empty(%T) : tensor<?x4xf32>
  %columns = linalg.broadcast ins(%steps : tensor<?xf32>) outs(%e : tensor<?x4xf32>) dimensions = [1]
  %0 = arith.mulf %columns, %x : tensor<?x4xf32>
  %1 = arith.addi %i, %i : tensor<?x4xi32>
  func.return %0, %1 : tensor<?x4xf32>, tensor<?x4xi32>
}

// What is the same in every row belongs to each group that reads it: alone it would not know how many rows it has.
// CHECK-LABEL: func.func @uniform
// CHECK-NOT:     arith.subf {{.*}} : tensor
// CHECK:         ternary.elementwise(%{{.*}}, %x : tensor<4xf32>, tensor<?x4xf32>) {
// CHECK:           arith.subf
// CHECK-NEXT:      arith.mulf
// CHECK:         ternary.rms_norm
// CHECK:         ternary.elementwise(%{{.*}}, %{{.*}} : tensor<4xf32>, tensor<?x4xf32>) {
// CHECK:           arith.subf
// CHECK-NEXT:      arith.addf
func.func @uniform(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %c0 = arith.constant 0 : index
  %T = tensor.dim %x, %c0 : tensor<?x4xf32>
  %b = ternary.load @b : tensor<4xf32>
  %e = tensor.empty(%T) : tensor<?x4xf32>
  %rows = linalg.broadcast ins(%b : tensor<4xf32>) outs(%e : tensor<?x4xf32>) dimensions = [0]
  %one = arith.constant 1.0 : f32
  %ones = tensor.splat %one[%T] : tensor<?x4xf32>
  %rest = arith.subf %ones, %rows : tensor<?x4xf32>
  %0 = arith.mulf %rest, %x : tensor<?x4xf32>
  %1 = ternary.rms_norm %0, %b eps = 1.0e-06 lanes = 16 : tensor<?x4xf32>, tensor<4xf32>
  %2 = arith.addf %rest, %1 : tensor<?x4xf32>
  func.return %2 : tensor<?x4xf32>
}
