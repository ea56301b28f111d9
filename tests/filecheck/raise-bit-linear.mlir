// RUN: sterna-opt %s -p raise-bit-linear | filecheck %s

ternary.weight @gain : tensor<8xf32>
ternary.weight @weight : tensor<4x8xf32>

// CHECK:      func.func @forward(%x: tensor<?x8xf32>) -> tensor<?x4xf32> {
// CHECK-NEXT:   %[[G:.*]] = ternary.load @gain : tensor<8xf32>
// CHECK-NEXT:   %n = ternary.rms_norm %x, %[[G]] eps = 1.000000e-06 lanes = 128 : tensor<?x8xf32>, tensor<8xf32>
// CHECK-NEXT:   %[[Q:.*]], %[[STEP:.*]] = ternary.quantize %n eps = 1.000000e-05 : tensor<?x8xf32> -> tensor<?x8xi8>, tensor<?xf32>
// CHECK-NEXT:   %[[W:.*]] = ternary.load @weight : tensor<4x8xf32>
// CHECK-NEXT:   %[[T:.*]], %[[SCALE:.*]] = ternary.absmean %[[W]] eps = 1.000000e-05 : tensor<4x8xf32> -> tensor<4x8x!ternary.trit>, tensor<f32>
// CHECK-NEXT:   %[[ACC:.*]] = ternary.accumulate %[[Q]], %[[T]] : tensor<?x8xi8>, tensor<4x8x!ternary.trit> -> tensor<?x4xi32>
// CHECK-NEXT:   %y = ternary.dequantize %[[ACC]], %[[STEP]], %[[SCALE]] : tensor<?x4xi32>, tensor<?xf32>, tensor<f32> -> tensor<?x4xf32>
// CHECK-NEXT:   func.return %y : tensor<?x4xf32>
// CHECK-NEXT: }

func.func @forward(%x: tensor<?x8xf32>) -> tensor<?x4xf32> {
  %c0 = arith.constant 0 : index
  %T = tensor.dim %x, %c0 : tensor<?x8xf32>
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  %minus_one = arith.constant -1.0 : f32
  %low = arith.constant -128.0 : f32
  %high = arith.constant 127.0 : f32
  %minus_inf = arith.constant 0xff800000 : f32
  %norm_eps = arith.constant 1.0e-06 : f32
  %floor = arith.constant 1.0e-05 : f32
  %k = arith.constant 8.0 : f32
  %size = arith.constant 32.0 : f32
  %rows = tensor.empty(%T) : tensor<?x8xf32>
  %zeros = tensor.splat %zero[%T] : tensor<?xf32>

  %xx = arith.mulf %x, %x : tensor<?x8xf32>
  %sum = linalg.reduce ins(%xx:tensor<?x8xf32>) outs(%zeros:tensor<?xf32>) dimensions = [1]
  (%a: f32, %b: f32) {
    %c = arith.addf %a, %b : f32
    linalg.yield %c : f32
  }
  %ks = tensor.splat %k[%T] : tensor<?xf32>
  %mean = arith.divf %sum, %ks : tensor<?xf32>
  %epss = tensor.splat %norm_eps[%T] : tensor<?xf32>
  %shifted = arith.addf %mean, %epss : tensor<?xf32>
  %r = math.rsqrt %shifted : tensor<?xf32>
  %rr = linalg.broadcast ins(%r:tensor<?xf32>) outs(%rows:tensor<?x8xf32>) dimensions = [1]
  %xr = arith.mulf %x, %rr : tensor<?x8xf32>
  %gain = ternary.load @gain : tensor<8xf32>
  %gains = linalg.broadcast ins(%gain:tensor<8xf32>) outs(%rows:tensor<?x8xf32>) dimensions = [0]
  %n = arith.mulf %xr, %gains : tensor<?x8xf32>

  %abs = math.absf %n : tensor<?x8xf32>
  %lowest = tensor.splat %minus_inf[%T] : tensor<?xf32>
  %max = linalg.reduce ins(%abs:tensor<?x8xf32>) outs(%lowest:tensor<?xf32>) dimensions = [1]
  (%d: f32, %e: f32) {
    %f = arith.maximumf %d, %e : f32
    linalg.yield %f : f32
  }
  %floors = tensor.splat %floor[%T] : tensor<?xf32>
  %d0 = arith.maximumf %max, %floors : tensor<?xf32>
  %highs = tensor.splat %high[%T] : tensor<?xf32>
  %s = arith.divf %highs, %d0 : tensor<?xf32>
  %ss = linalg.broadcast ins(%s:tensor<?xf32>) outs(%rows:tensor<?x8xf32>) dimensions = [1]
  %ns = arith.mulf %n, %ss : tensor<?x8xf32>
  %round = math.roundeven %ns : tensor<?x8xf32>
  %lo = tensor.splat %low[%T] : tensor<?x8xf32>
  %hi = tensor.splat %high[%T] : tensor<?x8xf32>
  %above = arith.maximumf %round, %lo : tensor<?x8xf32>
  %q = arith.minimumf %above, %hi : tensor<?x8xf32>
  %qs = arith.divf %q, %ss : tensor<?x8xf32>
  %change = arith.subf %qs, %n : tensor<?x8xf32>
  %nq = arith.addf %n, %change : tensor<?x8xf32>

  %w = ternary.load @weight : tensor<4x8xf32>
  %wabs = math.absf %w : tensor<4x8xf32>
  %wzero = tensor.splat %zero : tensor<f32>
  %wsum = linalg.reduce ins(%wabs:tensor<4x8xf32>) outs(%wzero:tensor<f32>) dimensions = [0, 1]
  (%g: f32, %h: f32) {
    %i = arith.addf %g, %h : f32
    linalg.yield %i : f32
  }
  %wsize = tensor.splat %size : tensor<f32>
  %wmean = arith.divf %wsum, %wsize : tensor<f32>
  %wfloor = tensor.splat %floor : tensor<f32>
  %wd = arith.maximumf %wmean, %wfloor : tensor<f32>
  %wone = tensor.splat %one : tensor<f32>
  %u = arith.divf %wone, %wd : tensor<f32>
  %matrix = tensor.empty() : tensor<4x8xf32>
  %uu = linalg.broadcast ins(%u:tensor<f32>) outs(%matrix:tensor<4x8xf32>) dimensions = [0, 1]
  %wu = arith.mulf %w, %uu : tensor<4x8xf32>
  %wround = math.roundeven %wu : tensor<4x8xf32>
  %wlo = tensor.splat %minus_one : tensor<4x8xf32>
  %whi = tensor.splat %one : tensor<4x8xf32>
  %wabove = arith.maximumf %wround, %wlo : tensor<4x8xf32>
  %t = arith.minimumf %wabove, %whi : tensor<4x8xf32>
  %ts = arith.divf %t, %uu : tensor<4x8xf32>
  %wchange = arith.subf %ts, %w : tensor<4x8xf32>
  %wt = arith.addf %w, %wchange : tensor<4x8xf32>
  %init = tensor.empty() : tensor<8x4xf32>
  %turned = linalg.transpose ins(%wt:tensor<4x8xf32>) outs(%init:tensor<8x4xf32>) permutation = [1, 0]
  %yzero = tensor.splat %zero[%T] : tensor<?x4xf32>
  %y = linalg.matmul ins(%nq, %turned : tensor<?x8xf32>, tensor<8x4xf32>) outs(%yzero : tensor<?x4xf32>) -> tensor<?x4xf32>
  func.return %y : tensor<?x4xf32>
}
