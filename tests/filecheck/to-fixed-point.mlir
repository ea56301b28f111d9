// RUN: sterna-opt %s -p to-fixed-point --weights random | filecheck %s
// RUN: sterna-opt %s -p 'to-fixed-point{activations=16 gains=12 reciprocal=18}' --weights random | filecheck %s --check-prefix=NARROW

ternary.weight @table : tensor<16x8xf32>
// CHECK: fixed.table @sigmoid signed i16 -> i18 [0, 0,
// CHECK: fixed.table @reciprocal unsigned i16 -> i18
// CHECK: fixed.table @rsqrt unsigned i16 -> i18 [65536, 65536,
ternary.weight @gain : tensor<8xf32>
// CHECK: ternary.weight @gain.fixed : tensor<8xi18, #fixed.point<{{[0-9]+}}>> {
// CHECK:   fixed.from_float %{{.*}} : tensor<8xf32> -> tensor<8xi18
// NARROW: ternary.weight @gain.fixed : tensor<8xi12
ternary.weight @weight : tensor<8x8xf32>
ternary.weight @trits : tensor<8x8x!ternary.trit> {
  %w = ternary.load @weight : tensor<8x8xf32>
  %t, %s = ternary.absmean %w eps = 1.0e-5 : tensor<8x8xf32> -> tensor<8x8x!ternary.trit>, tensor<f32>
  ternary.yield %t : tensor<8x8x!ternary.trit>
}
ternary.weight @scale : tensor<f32> {
  %w = ternary.load @weight : tensor<8x8xf32>
  %t, %s = ternary.absmean %w eps = 1.0e-5 : tensor<8x8xf32> -> tensor<8x8x!ternary.trit>, tensor<f32>
  ternary.yield %s : tensor<f32>
}

// The floats stay at the edges: tokens and a state of floats in, floats and a state out.
// CHECK-LABEL: func.func @forward(%tokens: tensor<?xi64>, %state: tensor<8xf32>) -> (tensor<?x8xf32>, tensor<8xf32>)
// CHECK-NEXT:    %[[TABLE:.*]] = ternary.load @table.fixed : tensor<16x8xi20
// CHECK-NEXT:    %[[X:.*]] = ternary.embedding %tokens, %[[TABLE]]
// One read of x makes its squares, the gained row, and that row's magnitudes; sums and maxima are of a row.
// CHECK:         %[[SQUARES:.*]], %[[Y:.*]], %[[MAGNITUDES:.*]] = ternary.elementwise(%[[X]], %{{.*}}) {
// CHECK:         } -> tensor<?x8xi36, #fixed.point<{{.*}}>>, tensor<?x8xi18, #fixed.point<{{.*}}>>, tensor<?x8xi19
// CHECK-NEXT:    %[[N:.*]] = fixed.sum %[[SQUARES]] : tensor<?x8xi36, {{.*}} -> tensor<?xi39
// CHECK-NEXT:    %[[A:.*]] = fixed.max %[[MAGNITUDES]]
// Once a row: a reciprocal and a step.
// CHECK-NEXT:    %[[R:.*]], %[[STEP:.*]] = ternary.elementwise(%[[N]], %[[A]] :
// CHECK:           fixed.normalize %{{.*}} step 2
// CHECK-NEXT:      fixed.interpolate %{{.*}}, @rsqrt
// CHECK:           fixed.interpolate %{{.*}}, @reciprocal
// CHECK:         } -> tensor<?xi25, {{.*}}>, tensor<?xi18
// NARROW:        } -> tensor<?xi18, {{.*}}>, tensor<?xi16
// The second read of the row.
// CHECK-NEXT:    %q = ternary.elementwise(%[[Y]], %[[R]] : {{.*}}) axes = [array<i64: 0, 1>, array<i64: 0>] {
// CHECK:         } -> tensor<?x8xi8, #fixed.point<0>>
// Eight numbers of i8 and any signs: 8 * 128 needs twelve bits.
// CHECK:         %[[F:.*]] = ternary.accumulate %q, %{{.*}} -> tensor<?x8xi12>
// CHECK:         %[[I:.*]] = ternary.accumulate %q, %{{.*}} -> tensor<?x8xi12>
// CHECK-NEXT:    %f, %i = ternary.elementwise(%[[F]], %[[STEP]], %[[I]] :
// CHECK:           %[[SIGMOID:.*]] = fixed.interpolate %{{.*}}, @sigmoid
// CHECK:           arith.constant 65536 : i19
// CHECK:           arith.subi
// CHECK:           ternary.yield %[[SIGMOID]]
// CHECK:         } -> tensor<?x8xi18, #fixed.point<16>>, tensor<?x8xi24
// CHECK-NEXT:    %[[INIT:.*]] = fixed.from_float %state : tensor<8xf32> -> tensor<8xi24
// CHECK-NEXT:    %s, %[[LAST:.*]] = fixed.scan %f, %i, %[[INIT]] by 16
// CHECK-NEXT:    %[[LOGITS:.*]] = fixed.to_float %s
// CHECK-NEXT:    %[[STATE:.*]] = fixed.to_float %[[LAST]]
// CHECK-NEXT:    func.return %[[LOGITS]], %[[STATE]]
func.func @forward(%tokens: tensor<?xi64>, %state: tensor<8xf32>) -> (tensor<?x8xf32>, tensor<8xf32>) attributes {sterna.states = 1 : i64} {
  %table = ternary.load @table : tensor<16x8xf32>
  %x = ternary.embedding %tokens, %table : tensor<?xi64>, tensor<16x8xf32> -> tensor<?x8xf32>
  %g = ternary.load @gain : tensor<8xf32>
  %q, %step = ternary.norm_quantize %x gains(%g : tensor<8xf32>) eps = 1.0e-6 quantize_eps = 1.0e-5 lanes = 16 : tensor<?x8xf32> -> (tensor<?x8xi8>), (tensor<?xf32>)
  %w = ternary.load @trits : tensor<8x8x!ternary.trit>
  %c = ternary.load @scale : tensor<f32>
  %f, %i = ternary.project quantized(%q : tensor<?x8xi8>) steps(%step : tensor<?xf32>) weights(%w, %w : tensor<8x8x!ternary.trit>, tensor<8x8x!ternary.trit>) scales(%c, %c : tensor<f32>, tensor<f32>) reads = [0, 0] {
  ^bb0(%a: f32, %b: f32):
    %one = arith.constant 1.0 : f32
    %m = arith.negf %a : f32
    %e = math.exp %m : f32
    %d = arith.addf %one, %e : f32
    %keep = arith.divf %one, %d : f32
    %rest = arith.subf %one, %keep : f32
    %in = arith.mulf %b, %rest : f32
    ternary.yield %keep, %in : f32, f32
  } -> tensor<?x8xf32>, tensor<?x8xf32>
  %s, %last = ternary.scan %f, %i, %state : tensor<?x8xf32>, tensor<8xf32>
  func.return %s, %last : tensor<?x8xf32>, tensor<8xf32>
}
