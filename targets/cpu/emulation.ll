; What the x86 instructions that kernels use do, in plain IR: for tests of the kernels on machines that lack them.

; vpdpbusd: four unsigned bytes times four signed bytes, added to an int32, without saturation.
define <16 x i32> @emulated.avx512.vpdpbusd.512(<16 x i32> %sum, <64 x i8> %unsigned, <64 x i8> %signed) {
  %u = zext <64 x i8> %unsigned to <64 x i32>
  %s = sext <64 x i8> %signed to <64 x i32>
  %p = mul <64 x i32> %u, %s
  %p0 = shufflevector <64 x i32> %p, <64 x i32> poison, <16 x i32> <i32 0, i32 4, i32 8, i32 12, i32 16, i32 20, i32 24, i32 28, i32 32, i32 36, i32 40, i32 44, i32 48, i32 52, i32 56, i32 60>
  %p1 = shufflevector <64 x i32> %p, <64 x i32> poison, <16 x i32> <i32 1, i32 5, i32 9, i32 13, i32 17, i32 21, i32 25, i32 29, i32 33, i32 37, i32 41, i32 45, i32 49, i32 53, i32 57, i32 61>
  %p2 = shufflevector <64 x i32> %p, <64 x i32> poison, <16 x i32> <i32 2, i32 6, i32 10, i32 14, i32 18, i32 22, i32 26, i32 30, i32 34, i32 38, i32 42, i32 46, i32 50, i32 54, i32 58, i32 62>
  %p3 = shufflevector <64 x i32> %p, <64 x i32> poison, <16 x i32> <i32 3, i32 7, i32 11, i32 15, i32 19, i32 23, i32 27, i32 31, i32 35, i32 39, i32 43, i32 47, i32 51, i32 55, i32 59, i32 63>
  %a = add <16 x i32> %sum, %p0
  %b = add <16 x i32> %a, %p1
  %c = add <16 x i32> %b, %p2
  %d = add <16 x i32> %c, %p3
  ret <16 x i32> %d
}

; vpmaddubsw: two unsigned bytes times two signed bytes, added with saturation to int16.
define <16 x i16> @emulated.avx2.pmadd.ub.sw(<32 x i8> %unsigned, <32 x i8> %signed) {
  %u = zext <32 x i8> %unsigned to <32 x i16>
  %s = sext <32 x i8> %signed to <32 x i16>
  %p = mul <32 x i16> %u, %s
  %even = shufflevector <32 x i16> %p, <32 x i16> poison, <16 x i32> <i32 0, i32 2, i32 4, i32 6, i32 8, i32 10, i32 12, i32 14, i32 16, i32 18, i32 20, i32 22, i32 24, i32 26, i32 28, i32 30>
  %odd = shufflevector <32 x i16> %p, <32 x i16> poison, <16 x i32> <i32 1, i32 3, i32 5, i32 7, i32 9, i32 11, i32 13, i32 15, i32 17, i32 19, i32 21, i32 23, i32 25, i32 27, i32 29, i32 31>
  %r = call <16 x i16> @llvm.sadd.sat.v16i16(<16 x i16> %even, <16 x i16> %odd)
  ret <16 x i16> %r
}

declare <16 x i16> @llvm.sadd.sat.v16i16(<16 x i16>, <16 x i16>)

; vpmaddwd: two signed int16 times two signed int16, added to an int32.
define <8 x i32> @emulated.avx2.pmadd.wd(<16 x i16> %a, <16 x i16> %b) {
  %x = sext <16 x i16> %a to <16 x i32>
  %y = sext <16 x i16> %b to <16 x i32>
  %p = mul <16 x i32> %x, %y
  %even = shufflevector <16 x i32> %p, <16 x i32> poison, <8 x i32> <i32 0, i32 2, i32 4, i32 6, i32 8, i32 10, i32 12, i32 14>
  %odd = shufflevector <16 x i32> %p, <16 x i32> poison, <8 x i32> <i32 1, i32 3, i32 5, i32 7, i32 9, i32 11, i32 13, i32 15>
  %r = add <8 x i32> %even, %odd
  ret <8 x i32> %r
}
