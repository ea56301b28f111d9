// RUN: sterna-opt %s -p convert-scf-to-cf,convert-to-llvm | filecheck %s

func.func private @barrier(!llvm.ptr, i64)
func.func private @kernel(%x: !llvm.ptr, %rows: i64, %one: i64) {
  scf.for %i = %one to %rows step %one : i64 {
    %v = llvm.load %x : !llvm.ptr -> vector<16xf32>
    %m = llvm_vector.fcmp "uno" %v, %v : vector<16xf32>
    %s = llvm_vector.select %m, %v, %v : vector<16xi1>, vector<16xf32>
    %e = llvm_vector.extractelement %s[3] : vector<16xf32> -> f32
    llvm.store %e, %x : f32, !llvm.ptr
  }
  func.return
}
func.func private @dot(%v: vector<4xi32>) -> vector<4xi32> {
  func.return %v : vector<4xi32>
}
func.func @forward(%x: !llvm.ptr, %rows: i64) {
  func.call @kernel(%x, %rows, %rows) : (!llvm.ptr, i64, i64) -> ()
  func.call @barrier(%x, %rows) : (!llvm.ptr, i64) -> ()
  func.return
}

// CHECK:      llvm.func @barrier(!llvm.ptr, i64)
// CHECK:      llvm.func internal @kernel(%x: !llvm.ptr, %rows: i64, %one: i64) {
// CHECK-NEXT:   llvm.br ^[[HEAD:.*]](%one : i64)
// CHECK-NEXT: ^[[HEAD]](%i: i64):
// CHECK-NEXT:   %[[MORE:.*]] = llvm.icmp "slt" %i, %rows : i64
// CHECK-NEXT:   llvm.cond_br %[[MORE]], ^[[BODY:.*]], ^[[END:.*]]
// CHECK-NEXT: ^[[BODY]]:
// CHECK:        llvm_vector.fcmp "uno" %v, %v : vector<16xf32>
// CHECK-NEXT:   llvm_vector.select %m, %v, %v : vector<16xi1>, vector<16xf32>
// CHECK-NEXT:   llvm_vector.extractelement %s[3] : vector<16xf32> -> f32
// CHECK:        %[[NEXT:.*]] = llvm.add %i, %one : i64
// CHECK-NEXT:   llvm.br ^[[HEAD]](%[[NEXT]] : i64)
// CHECK-NEXT: ^[[END]]:
// CHECK-NEXT:   llvm.return
// CHECK:      llvm.func internal @dot(%[[V:.*]]: vector<4xi32>) -> vector<4xi32> {
// CHECK-NEXT:   llvm.return %[[V]] : vector<4xi32>
// CHECK:      llvm.func @forward(%[[X:.*]]: !llvm.ptr, %[[ROWS:.*]]: i64) {
// CHECK-NEXT:   llvm.call @kernel(%[[X]], %[[ROWS]], %[[ROWS]])
// CHECK-NEXT:   llvm.call @barrier(%[[X]], %[[ROWS]])
// CHECK-NEXT:   llvm.return
