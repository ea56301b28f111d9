// RUN: sterna-opt %s -p outline-layers | filecheck %s

ternary.weight @a : tensor<8xf32>
ternary.weight @b : tensor<8xf32>
ternary.weight @c : tensor<8xf32>

// Three layers of two ops, each with its weight; the first has another eps and stays.
// CHECK-LABEL: func.func @forward
// CHECK:         %[[A:.*]] = ternary.load @a
// CHECK-NEXT:    %[[X0:.*]] = ternary.rms_norm %x, %[[A]] eps = 1.000000e-03
// CHECK-NEXT:    %[[X1:.*]] = ternary.elementwise(%[[X0]], %x :
// CHECK:         %[[B:.*]] = ternary.load @b
// CHECK-NEXT:    %[[X2:.*]] = func.call @layer_0(%[[X1]], %[[B]]) : (tensor<?x8xf32>, tensor<8xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    %[[C:.*]] = ternary.load @c
// CHECK-NEXT:    %[[X3:.*]] = func.call @layer_0(%[[X2]], %[[C]]) : (tensor<?x8xf32>, tensor<8xf32>) -> tensor<?x8xf32>
// CHECK-NEXT:    func.return %[[X3]]
// CHECK:       func.func private @layer_0(%[[X:.*]]: tensor<?x8xf32>, %[[W:.*]]: tensor<8xf32>) -> tensor<?x8xf32> {
// CHECK-NEXT:    %[[N:.*]] = ternary.rms_norm %[[X]], %[[W]] eps = 1.000000e-06
// CHECK-NEXT:    %[[E:.*]] = ternary.elementwise(%[[N]], %[[X]] :
// CHECK:         func.return %[[E]]
func.func @forward(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %b = ternary.load @b : tensor<8xf32>
  %a = ternary.load @a : tensor<8xf32>
  %n0 = ternary.rms_norm %x, %a eps = 1.0e-03 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %x1 = ternary.elementwise(%n0, %x : tensor<?x8xf32>, tensor<?x8xf32>) {
  ^bb0(%l: f32, %r: f32):
    %s = arith.addf %l, %r : f32
    ternary.yield %s : f32
  } -> tensor<?x8xf32>
  %n1 = ternary.rms_norm %x1, %b eps = 1.0e-06 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %x2 = ternary.elementwise(%n1, %x1 : tensor<?x8xf32>, tensor<?x8xf32>) {
  ^bb0(%l: f32, %r: f32):
    %s = arith.addf %l, %r : f32
    ternary.yield %s : f32
  } -> tensor<?x8xf32>
  %c = ternary.load @c : tensor<8xf32>
  %n2 = ternary.rms_norm %x2, %c eps = 1.0e-06 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %x3 = ternary.elementwise(%n2, %x2 : tensor<?x8xf32>, tensor<?x8xf32>) {
  ^bb0(%l: f32, %r: f32):
    %s = arith.addf %l, %r : f32
    ternary.yield %s : f32
  } -> tensor<?x8xf32>
  func.return %x3 : tensor<?x8xf32>
}

// The same operations wired otherwise are another layer: nothing repeats.
// CHECK-LABEL: func.func @crossed
// CHECK-NOT:     func.call
// CHECK:         func.return
func.func @crossed(%x: tensor<?x8xf32>) -> tensor<?x8xf32> {
  %a = ternary.load @a : tensor<8xf32>
  %n1 = ternary.rms_norm %x, %a eps = 1.0e-06 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %x2 = ternary.elementwise(%n1, %x : tensor<?x8xf32>, tensor<?x8xf32>) {
  ^bb0(%l: f32, %r: f32):
    %s = arith.subf %l, %r : f32
    ternary.yield %s : f32
  } -> tensor<?x8xf32>
  %n2 = ternary.rms_norm %x2, %a eps = 1.0e-06 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %x3 = ternary.elementwise(%x2, %n2 : tensor<?x8xf32>, tensor<?x8xf32>) {
  ^bb0(%l: f32, %r: f32):
    %s = arith.subf %l, %r : f32
    ternary.yield %s : f32
  } -> tensor<?x8xf32>
  func.return %x3 : tensor<?x8xf32>
}
