// RUN: sterna-opt %s -p fuse-norm-quantize | filecheck %s

ternary.weight @a : tensor<8xf32>
ternary.weight @g0 : tensor<8xf32>
// CHECK:      ternary.weight @g0.outer : tensor<8xf32> {
// CHECK-NEXT:   %[[G:.*]] = ternary.load @g0 : tensor<8xf32>
// CHECK-NEXT:   %[[A:.*]] = ternary.load @a : tensor<8xf32>
// CHECK-NEXT:   %[[P:.*]] = arith.mulf %[[G]], %[[A]] : tensor<8xf32>
// CHECK-NEXT:   ternary.yield %[[P]] : tensor<8xf32>
// CHECK-NEXT: }
ternary.weight @g1 : tensor<8xf32>
// CHECK: ternary.weight @g1.outer

// The norm of a norm, read by two projections: one op, a gain for each.
// CHECK-LABEL: func.func @norm_of_norm
// CHECK-NEXT:    %[[A:.*]] = ternary.load @a
// CHECK-NEXT:    %[[G0:.*]] = ternary.load @g0.outer
// CHECK-NEXT:    %[[G1:.*]] = ternary.load @g1.outer
// CHECK-NEXT:    %q0, %q1, %d0, %d1 = ternary.norm_quantize %x of %[[A]] : tensor<8xf32> outer_eps = 1.000000e-06 gains(%[[G0]], %[[G1]] : tensor<8xf32>, tensor<8xf32>) eps = 1.000000e-08 quantize_eps = 1.000000e-05 lanes = 16
// CHECK-NEXT:    func.return %q0, %d0, %q1, %d1
func.func @norm_of_norm(%x: tensor<?x8xf32>) -> (tensor<?x8xi8>, tensor<?xf32>, tensor<?x8xi8>, tensor<?xf32>) {
  %a = ternary.load @a : tensor<8xf32>
  %h = ternary.rms_norm %x, %a eps = 1.0e-06 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %g0 = ternary.load @g0 : tensor<8xf32>
  %n0 = ternary.rms_norm %h, %g0 eps = 1.0e-08 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %q0, %d0 = ternary.quantize %n0 eps = 1.0e-05 : tensor<?x8xf32> -> tensor<?x8xi8>, tensor<?xf32>
  %g1 = ternary.load @g1 : tensor<8xf32>
  %n1 = ternary.rms_norm %h, %g1 eps = 1.0e-08 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %q1, %d1 = ternary.quantize %n1 eps = 1.0e-05 : tensor<?x8xf32> -> tensor<?x8xi8>, tensor<?xf32>
  func.return %q0, %d0, %q1, %d1 : tensor<?x8xi8>, tensor<?xf32>, tensor<?x8xi8>, tensor<?xf32>
}

// Two projections with one norm weight share one quantized input.
// CHECK-LABEL: func.func @same_gain
// CHECK:         %[[Q:.*]], %[[D:.*]] = ternary.norm_quantize %x gains(%{{.*}} : tensor<8xf32>) eps
// CHECK-NEXT:    func.return %[[Q]], %[[D]], %[[Q]], %[[D]]
func.func @same_gain(%x: tensor<?x8xf32>) -> (tensor<?x8xi8>, tensor<?xf32>, tensor<?x8xi8>, tensor<?xf32>) {
  %g0 = ternary.load @g0 : tensor<8xf32>
  %n0 = ternary.rms_norm %x, %g0 eps = 1.0e-08 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %q0, %d0 = ternary.quantize %n0 eps = 1.0e-05 : tensor<?x8xf32> -> tensor<?x8xi8>, tensor<?xf32>
  %g1 = ternary.load @g0 : tensor<8xf32>
  %n1 = ternary.rms_norm %x, %g1 eps = 1.0e-08 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %q1, %d1 = ternary.quantize %n1 eps = 1.0e-05 : tensor<?x8xf32> -> tensor<?x8xi8>, tensor<?xf32>
  func.return %q0, %d0, %q1, %d1 : tensor<?x8xi8>, tensor<?xf32>, tensor<?x8xi8>, tensor<?xf32>
}

// A norm that something else reads stays for it.
// CHECK-LABEL: func.func @norm_read_twice
// CHECK:         %[[H:.*]] = ternary.rms_norm %x
// CHECK:         %[[Q:.*]], %{{.*}} = ternary.norm_quantize %x of
// CHECK-NEXT:    func.return %[[H]], %[[Q]]
func.func @norm_read_twice(%x: tensor<?x8xf32>) -> (tensor<?x8xf32>, tensor<?x8xi8>) {
  %a = ternary.load @a : tensor<8xf32>
  %h = ternary.rms_norm %x, %a eps = 1.0e-06 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %g0 = ternary.load @g0 : tensor<8xf32>
  %n0 = ternary.rms_norm %h, %g0 eps = 1.0e-08 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %q0, %d0 = ternary.quantize %n0 eps = 1.0e-05 : tensor<?x8xf32> -> tensor<?x8xi8>, tensor<?xf32>
  func.return %h, %q0 : tensor<?x8xf32>, tensor<?x8xi8>
}

// Different eps or lanes: different ops. A plain quantize is left alone.
// CHECK-LABEL: func.func @unlike
// CHECK:         ternary.norm_quantize %x gains
// CHECK:         ternary.norm_quantize %x gains
// CHECK:         %[[H:.*]] = ternary.rms_norm %x, %{{.*}} eps = 1.000000e-06 lanes = 8
// CHECK:         ternary.norm_quantize %[[H]] gains
// CHECK:         ternary.quantize %x
func.func @unlike(%x: tensor<?x8xf32>) -> (tensor<?x8xi8>, tensor<?x8xi8>, tensor<?x8xi8>, tensor<?x8xi8>) {
  %g0 = ternary.load @g0 : tensor<8xf32>
  %n0 = ternary.rms_norm %x, %g0 eps = 1.0e-08 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %q0, %d0 = ternary.quantize %n0 eps = 1.0e-05 : tensor<?x8xf32> -> tensor<?x8xi8>, tensor<?xf32>
  %n1 = ternary.rms_norm %x, %g0 eps = 1.0e-06 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %q1, %d1 = ternary.quantize %n1 eps = 1.0e-05 : tensor<?x8xf32> -> tensor<?x8xi8>, tensor<?xf32>
  %a = ternary.load @a : tensor<8xf32>
  %h = ternary.rms_norm %x, %a eps = 1.0e-06 lanes = 8 : tensor<?x8xf32>, tensor<8xf32>
  %n2 = ternary.rms_norm %h, %g0 eps = 1.0e-06 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %q2, %d2 = ternary.quantize %n2 eps = 1.0e-05 : tensor<?x8xf32> -> tensor<?x8xi8>, tensor<?xf32>
  %q3, %d3 = ternary.quantize %x eps = 1.0e-05 : tensor<?x8xf32> -> tensor<?x8xi8>, tensor<?xf32>
  func.return %q0, %q1, %q2, %q3 : tensor<?x8xi8>, tensor<?x8xi8>, tensor<?x8xi8>, tensor<?x8xi8>
}
