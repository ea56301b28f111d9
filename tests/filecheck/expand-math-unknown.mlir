// RUN: not sterna-opt %s -p expand-math 2>&1 | filecheck %s
// CHECK: no arithmetic of fixed bits for math.cbrt; math.atan (there is for math.exp, math.log, math.tanh

func.func @forward(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %y = ternary.elementwise(%x : tensor<?x4xf32>) {
  ^bb0(%a: f32):
    %t = math.cbrt %a : f32
    %e = math.atan %t : f32
    %u = math.cbrt %e : f32
    ternary.yield %u : f32
  } -> tensor<?x4xf32>
  func.return %y : tensor<?x4xf32>
}
