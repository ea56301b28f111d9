// RUN: not sterna-opt %s -p expand-math 2>&1 | filecheck %s
// CHECK: no arithmetic of fixed bits for math.tanh; math.erf (there is for math.exp, math.rsqrt, math.sqrt, math.absf)

func.func @forward(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %y = ternary.elementwise(%x : tensor<?x4xf32>) {
  ^bb0(%a: f32):
    %t = math.tanh %a : f32
    %e = math.erf %t : f32
    %u = math.tanh %e : f32
    ternary.yield %u : f32
  } -> tensor<?x4xf32>
  func.return %y : tensor<?x4xf32>
}
