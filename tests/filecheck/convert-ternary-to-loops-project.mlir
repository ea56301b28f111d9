// RUN: sterna-opt %s -p 'convert-ternary-to-loops{isa=avx512vnni}' | filecheck %s --check-prefix VNNI
// RUN: sterna-opt %s -p 'convert-ternary-to-loops{isa=avx2}' | filecheck %s --check-prefix AVX2
// RUN: sterna-opt %s -p convert-ternary-to-loops | filecheck %s --check-prefix BASE

builtin.module attributes {ternary.max_rows = 4 : i64} {
  ternary.weight @w attributes {offset = 64 : i64} : tensor<20x300x!ternary.trit, #ternary.encoding<i2, tile = [4, 256]>>
  ternary.weight @s attributes {offset = 0 : i64} : tensor<f32>
  func.func @forward(%q: tensor<?x300xi8>, %step: tensor<?xf32>) -> tensor<?x20xf32> attributes {ternary.arena_bytes = 0 : i64} {
    %w = ternary.load @w : tensor<20x300x!ternary.trit, #ternary.encoding<i2, tile = [4, 256]>>
    %s = ternary.load @s : tensor<f32>
    %y = ternary.project quantized(%q : tensor<?x300xi8>) steps(%step : tensor<?xf32>) weights(%w : tensor<20x300x!ternary.trit, #ternary.encoding<i2, tile = [4, 256]>>) scales(%s : tensor<f32>) reads = [0] {
    ^bb0(%a: f32):
      %b = arith.negf %a : f32
      ternary.yield %b : f32
    } {arena = array<i64: -1>} -> tensor<?x20xf32>
    func.return %y : tensor<?x20xf32>
  }
}

// Fields are masked in place and multiplied with 64 activations at once; the shifts come after the loop.
// VNNI-LABEL: func.func private @dot_512
// VNNI:       llvm.load %{{.*}} {alignment = 64 : i64} : !llvm.ptr -> vector<64xi8>
// VNNI:       %[[FIELD:.*]] = llvm.and %{{.*}}, %{{.*}} : vector<64xi8>
// VNNI-NEXT:  llvm.call_intrinsic "llvm.x86.avx512.vpdpbusd.512"(%{{.*}}, %[[FIELD]], %{{.*}})
// VNNI-NOT:   llvm.lshr
// VNNI:       scf.yield
// VNNI:       llvm.ashr %{{.*}}, %{{.*}} : vector<16xi32>

// int16 pairs over at most four tiles, then int32.
// AVX2-LABEL: func.func private @dot_512
// AVX2:       scf.for {{.*}} -> (vector<8xi32>, vector<8xi32>, vector<8xi32>, vector<8xi32>)
// AVX2:         scf.for {{.*}} -> (vector<16xi16>, vector<16xi16>, vector<16xi16>, vector<16xi16>, vector<16xi16>
// AVX2:           llvm.call_intrinsic "llvm.x86.avx2.pmadd.ub.sw"
// AVX2:         llvm.call_intrinsic "llvm.x86.avx2.pmadd.wd"

// BASE-LABEL: func.func private @dot_512
// BASE-NOT:   llvm.x86
// BASE:       llvm.mul %{{.*}}, %{{.*}} : vector<8xi16>

// BASE-LABEL: func.func private @project_0
// sum(q) of every row first, then blocks of sixteen channels, each for all rows.
// BASE:       llvm.alloca
// BASE:       scf.for
// BASE:       scf.for
// BASE:         scf.for
// BASE:           func.call @dot_512
// BASE:           func.call @dot_512
// BASE:           func.call @dot_512
// BASE:           func.call @dot_512
// BASE:           llvm.sub %{{.*}}, %{{.*}} : vector<16xi32>
// BASE:           llvm.sitofp %{{.*}} : vector<16xi32> to vector<16xf32>
// BASE:           llvm.fneg %{{.*}} : vector<16xf32>
// BASE:           llvm.store
