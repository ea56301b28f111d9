// RUN: sterna-opt %s -p expand-math | filecheck %s
// RUN: sterna-opt %s -p expand-math,expand-math | filecheck %s

ternary.weight @derived : tensor<4xf32> {
  %w = ternary.load @w : tensor<4xf32>
  // CHECK: math.exp
  %e = math.exp %w : tensor<4xf32>
  ternary.yield %e : tensor<4xf32>
}
ternary.weight @w : tensor<4xf32>

// CHECK-LABEL: func.func @exp
// CHECK:      ^bb{{.*}}(%[[X:.*]]: f32):
// CHECK-NEXT:   %[[ONE:.*]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT:   %[[HIGH:.*]] = arith.constant 8.900000e+01 : f32
// CHECK-NEXT:   %[[LOW:.*]] = arith.constant -1.040000e+02 : f32
// CHECK-NEXT:   %[[LOG2E:.*]] = arith.constant 1.44269502 : f32
// CHECK-NEXT:   %[[MAGIC:.*]] = arith.constant 0x4B400000 : f32
// CHECK-NEXT:   %[[BITS:.*]] = arith.constant 1262485504 : i32
// CHECK-NEXT:   arith.constant 0.693359375 : f32
// CHECK-NEXT:   arith.constant -0.000212194442 : f32
// CHECK-COUNT-6: arith.constant {{.*}} : f32
// CHECK-COUNT-3: arith.constant {{.*}} : i32
// CHECK-NEXT:   %[[A:.*]] = arith.cmpf ogt, %[[X]], %[[HIGH]] : f32
// CHECK-NEXT:   %[[B:.*]] = arith.select %[[A]], %[[HIGH]], %[[X]] : f32
// CHECK-NEXT:   %[[C:.*]] = arith.cmpf olt, %[[B]], %[[LOW]] : f32
// CHECK-NEXT:   %[[D:.*]] = arith.select %[[C]], %[[LOW]], %[[B]] : f32
// CHECK-NEXT:   %[[E:.*]] = arith.mulf %[[D]], %[[LOG2E]] : f32
// CHECK-NEXT:   %[[F:.*]] = arith.addf %[[E]], %[[MAGIC]] : f32
// CHECK-NEXT:   %[[G:.*]] = arith.bitcast %[[F]] : f32 to i32
// CHECK-NEXT:   arith.subi %[[G]], %[[BITS]] : i32
// CHECK-COUNT-2: arith.bitcast {{.*}} : i32 to f32
// CHECK-NOT:    math.exp
// CHECK:        ternary.yield
func.func @exp(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %y = ternary.elementwise(%x : tensor<?x4xf32>) {
  ^bb0(%a: f32):
    %e = math.exp %a : f32
    %one = arith.constant 1.0 : f32
    %b = arith.addf %e, %one : f32
    ternary.yield %b : f32
  } -> tensor<?x4xf32>
  func.return %y : tensor<?x4xf32>
}

// CHECK-LABEL: func.func @rsqrt
// CHECK:         %[[ONE:.*]] = arith.constant 1.000000e+00 : f32
// CHECK-NEXT:    %[[ROOT:.*]] = math.sqrt %{{.*}} : f32
// CHECK-NEXT:    %[[R:.*]] = arith.divf %[[ONE]], %[[ROOT]] : f32
// CHECK-NEXT:    ternary.yield %[[R]] : f32
func.func @rsqrt(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %y = ternary.elementwise(%x : tensor<?x4xf32>) {
  ^bb0(%a: f32):
    %r = math.rsqrt %a : f32
    ternary.yield %r : f32
  } -> tensor<?x4xf32>
  func.return %y : tensor<?x4xf32>
}

// CHECK-LABEL: func.func @log_of_a_tensor
// CHECK:         %[[AXIS:.*]] = arith.constant 1 : index
// CHECK-NEXT:    %[[ROWS:.*]] = tensor.dim %{{.*}}, %[[AXIS]] : tensor<2x?xf32>
// CHECK-NEXT:    %[[INIT:.*]] = tensor.empty(%[[ROWS]]) : tensor<2x?xf32>
// CHECK-NEXT:    linalg.generic {{.*}} iterator_types = ["parallel", "parallel"]} ins(%{{.*}} : tensor<2x?xf32>)
// CHECK-NOT:     math.log
func.func @log_of_a_tensor(%x: tensor<2x?xf32>) -> tensor<2x?xf32> {
  %y = math.log %x : tensor<2x?xf32>
  func.return %y : tensor<2x?xf32>
}

// CHECK-LABEL: func.func @rounded_to_half
// CHECK-NOT:    f16
// CHECK:        arith.constant 6.550400e+04 : f32
// CHECK-NOT:    f16
// CHECK:        func.return
func.func @rounded_to_half(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %y = ternary.elementwise(%x : tensor<?x4xf32>) {
  ^bb0(%a: f32):
    %h = arith.truncf %a : f32 to f16
    %s = arith.extf %h : f16 to f32
    ternary.yield %s : f32
  } -> tensor<?x4xf32>
  func.return %y : tensor<?x4xf32>
}
