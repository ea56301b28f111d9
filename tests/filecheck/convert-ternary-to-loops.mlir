// RUN: sterna-opt %s -p 'convert-ternary-to-loops{isa=avx2}' | filecheck %s

// One kernel for both layers, a call of it with other pointers, a barrier after each; callers hand their arena on.

builtin.module attributes {ternary.max_rows = 4 : i64} {
  ternary.weight @g attributes {offset = 0 : i64} : tensor<16xf32>
  ternary.weight @h attributes {offset = 64 : i64} : tensor<16xf32>
  func.func @forward(%x: tensor<?x16xf32>) -> tensor<?x16xf32> attributes {ternary.arena_bytes = 512 : i64} {
    %g = ternary.load @g : tensor<16xf32>
    %h = ternary.load @h : tensor<16xf32>
    %a = func.call @layer(%x, %g) {arena = array<i64: 256>, callee_arena = 128 : i64} : (tensor<?x16xf32>, tensor<16xf32>) -> tensor<?x16xf32>
    %b = ternary.rms_norm %a, %h eps = 1.0e-06 lanes = 16 {arena = array<i64: -1>} : tensor<?x16xf32>, tensor<16xf32>
    func.return %b : tensor<?x16xf32>
  }
  func.func private @layer(%x: tensor<?x16xf32>, %g: tensor<16xf32>) -> tensor<?x16xf32> attributes {ternary.arena_bytes = 0 : i64} {
    %y = ternary.rms_norm %x, %g eps = 1.0e-06 lanes = 16 {arena = array<i64: -1>} : tensor<?x16xf32>, tensor<16xf32>
    func.return %y : tensor<?x16xf32>
  }
}

// CHECK:      func.func private @barrier(!llvm.ptr, i64)
// CHECK:      func.func private @rms_norm_0(%{{.*}}: !llvm.ptr, %{{.*}}: !llvm.ptr, %{{.*}}: !llvm.ptr, %rows: i64, %thread: i64, %threads: i64) {
// This thread's rows, then the blocks of one: sixteen squares at a time into one register.
// CHECK:        llvm.udiv %{{.*}}, %threads : i64
// CHECK:        scf.for
// CHECK:          scf.for {{.*}} iter_args({{.*}}) -> (vector<16xf32>)
// CHECK:            %[[X:.*]] = llvm.load %{{.*}} {alignment = 64 : i64} : !llvm.ptr -> vector<16xf32>
// CHECK-NEXT:       %[[SQUARE:.*]] = llvm.fmul %[[X]], %[[X]] : vector<16xf32>
// CHECK-NEXT:       llvm.fadd %{{.*}}, %[[SQUARE]] : vector<16xf32>
// The halving tree.
// CHECK:          llvm.fadd %{{.*}}, %{{.*}} : vector<8xf32>
// CHECK:          llvm.fadd %{{.*}}, %{{.*}} : vector<4xf32>
// CHECK:          llvm.fadd %{{.*}}, %{{.*}} : vector<2xf32>
// CHECK:          llvm.call_intrinsic "llvm.sqrt.f32"
// CHECK:          llvm.store
// CHECK-NOT:  @rms_norm_1

// CHECK:      func.func @forward(%[[ARGS:.*]]: !llvm.ptr, %[[ROWS:.*]]: i64, %[[THREAD:.*]]: i64, %[[THREADS:.*]]: i64) {
// CHECK:        %[[WEIGHTS:.*]] = llvm.load %[[ARGS]] {alignment = 8 : i64} : !llvm.ptr -> !llvm.ptr
// CHECK-NEXT:   %[[ARENA:.*]] = llvm.load
// CHECK-NEXT:   %[[BARRIER:.*]] = llvm.load
// CHECK-NEXT:   %[[IN:.*]] = llvm.load
// CHECK-NEXT:   %[[OUT:.*]] = llvm.load
// CHECK-NEXT:   %[[C64:.*]] = llvm.mlir.constant(64) : i64
// CHECK-NEXT:   %[[H:.*]] = llvm.getelementptr %[[WEIGHTS]][%[[C64]]]
// CHECK-NEXT:   %[[C256:.*]] = llvm.mlir.constant(256) : i64
// CHECK-NEXT:   %[[A:.*]] = llvm.getelementptr %[[ARENA]][%[[C256]]]
// CHECK-NEXT:   %[[C128:.*]] = llvm.mlir.constant(128) : i64
// CHECK-NEXT:   %[[CALLEE:.*]] = llvm.getelementptr %[[ARENA]][%[[C128]]]
// CHECK-NEXT:   func.call @layer(%[[IN]], %[[WEIGHTS]], %[[A]], %[[WEIGHTS]], %[[CALLEE]], %[[BARRIER]], %[[ROWS]], %[[THREAD]], %[[THREADS]])
// CHECK-NEXT:   func.call @rms_norm_0(%[[A]], %[[H]], %[[OUT]], %[[ROWS]], %[[THREAD]], %[[THREADS]])
// CHECK-NEXT:   func.call @barrier(%[[BARRIER]], %[[THREADS]])
// CHECK-NEXT:   func.return

// CHECK:      func.func private @layer(
// CHECK-NEXT:   func.call @rms_norm_0(
// CHECK-NEXT:   func.call @barrier(
