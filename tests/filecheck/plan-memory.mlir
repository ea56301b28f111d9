// RUN: sterna-opt %s -p 'plan-memory{max-rows=8}' | filecheck %s
// RUN: not sterna-opt %s -p 'plan-memory{max-rows=0}' 2>&1 | filecheck %s --check-prefix=ROWS

// ROWS: max-rows is the rows of one step, at least 1, found 0

// CHECK: builtin.module attributes {ternary.max_rows = 8 : i64, ternary.weights_bytes = 128 : i64}

// Weights lie in the order of first use; what no function loads has no place.
// CHECK-NEXT: ternary.weight @b attributes {offset = 64 : i64} : tensor<8xf32>
ternary.weight @b : tensor<8xf32>
// CHECK-NEXT: ternary.weight @a attributes {offset = 0 : i64} : tensor<8xf32>
ternary.weight @a : tensor<8xf32>
// CHECK-NEXT: ternary.weight @unused : tensor<8xf32>
ternary.weight @unused : tensor<8xf32>

// A row of 8 f32 takes 64 bytes, eight rows 512. %1 is still read when %2 is made, then its place is free.
// CHECK-LABEL: func.func @forward
// CHECK-SAME:    attributes {ternary.arena_bytes = 1536 : i64}
// CHECK:         ternary.rms_norm {{.*}} {arena = array<i64: 0>}
// CHECK:         ternary.rms_norm {{.*}} {arena = array<i64: 512>}
// CHECK:         ternary.rms_norm {{.*}} {arena = array<i64: 0>}
// CHECK:         func.call @twice(%{{.*}}, %{{.*}}) {callee_arena = 512 : i64, arena = array<i64: -1, 1024>}
// CHECK:         %[[COPY:.*]] = ternary.elementwise(%x : tensor<?x8xf32>) {
// CHECK-NEXT:    ^bb{{.*}}(%[[X:.*]]: f32):
// CHECK-NEXT:      ternary.yield %[[X]] : f32
// CHECK-NEXT:    } {arena = array<i64: -2>} -> tensor<?x8xf32>
// CHECK:         func.return %{{.*}}, %[[COPY]]
func.func @forward(%x: tensor<?x8xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %a = ternary.load @a : tensor<8xf32>
  %b = ternary.load @b : tensor<8xf32>
  %1 = ternary.rms_norm %x, %a eps = 1.0e-06 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %2 = ternary.rms_norm %1, %a eps = 1.0e-06 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %3 = ternary.rms_norm %2, %a eps = 1.0e-06 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %4, %5 = func.call @twice(%3, %b) : (tensor<?x8xf32>, tensor<8xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>)
  func.return %4, %x : tensor<?x8xf32>, tensor<?x8xf32>
}

// A value that is returned twice is copied the second time.
// CHECK-LABEL: func.func private @twice
// CHECK-SAME:    attributes {ternary.arena_bytes = 512 : i64}
// CHECK:         %[[A:.*]] = ternary.rms_norm {{.*}} {arena = array<i64: 0>}
// CHECK-NEXT:    %[[B:.*]] = ternary.rms_norm {{.*}} {arena = array<i64: -1>}
// CHECK-NEXT:    %[[C:.*]] = ternary.elementwise(%[[B]]
// CHECK:         } {arena = array<i64: -2>}
// CHECK-NEXT:    func.return %[[B]], %[[C]]
func.func private @twice(%x: tensor<?x8xf32>, %w: tensor<8xf32>) -> (tensor<?x8xf32>, tensor<?x8xf32>) {
  %1 = ternary.rms_norm %x, %w eps = 1.0e-06 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  %2 = ternary.rms_norm %1, %w eps = 1.0e-06 lanes = 16 : tensor<?x8xf32>, tensor<8xf32>
  func.return %2, %2 : tensor<?x8xf32>, tensor<?x8xf32>
}
