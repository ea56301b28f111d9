// RUN: sterna-opt %s -p 'place-weights{weights="external" memory-width=128 memory-latency=40}' | filecheck %s
// RUN: sterna-opt %s -p 'place-weights{weights="auto"}' | filecheck %s --check-prefix=FITS
// RUN: sterna-opt %s -p 'place-weights{weights="auto" bram=20}' | filecheck %s --check-prefix=LESS

ternary.weight @table : tensor<16x256xi8>
ternary.weight @up : tensor<512x256x!ternary.trit>
ternary.weight @down : tensor<256x512x!ternary.trit>
ternary.weight @head : tensor<16x256x!ternary.trit>
stream.pipeline @forward {
^bb0(%token: !stream.rows<1 by 1 : i5>, %context: !stream.rows<1 by 1 : i2>):
  %x = stream.lookup %token, @table rows = 16 {stage = "lookup"} : !stream.rows<1 by 1 : i5> -> !stream.rows<256 by 16 : i8>
  %a = stream.array %x, @up design = "adder-tree" {stage = "up"} : !stream.rows<256 by 16 : i8> -> !stream.rows<512 by 4 : i17>
  %y = stream.map(%a : !stream.rows<512 by 4 : i17>) constants [] {
  ^bb1(%e: i17):
    %q = fixed.rescale %e by 9 : i17 to i8
    ternary.yield %q : i8
  } {stage = "q"} -> !stream.rows<512 by 4 : i8>
  %w = stream.lanes %y : !stream.rows<512 by 4 : i8> -> !stream.rows<512 by 16 : i8>
  %b = stream.array %w, @down design = "adder-tree" {stage = "down"} : !stream.rows<512 by 16 : i8> -> !stream.rows<256 by 4 : i18>
  %z = stream.map(%b : !stream.rows<256 by 4 : i18>) constants [] {
  ^bb1(%e: i18):
    %q = fixed.rescale %e by 9 : i18 to i8
    ternary.yield %q : i8
  } {stage = "r"} -> !stream.rows<256 by 4 : i8>
  %c = stream.array %z, @head design = "adder-tree" {stage = "head"} : !stream.rows<256 by 4 : i8> -> !stream.rows<16 by 1 : i17>
  stream.yield %c : !stream.rows<16 by 1 : i17>
}

// Two bits a weight; a region begins on a page of 4096 bytes.
// CHECK: stream.array %x, @up design = "adder-tree" from <0, 2048 x 128, ahead = 64>
// CHECK: stream.array %w, @down design = "adder-tree" from <32768, 2048 x 128, ahead = 64>
// CHECK: stream.array %z, @head design = "adder-tree" from <65536, 64 x 128, ahead = 64>
// FITS-NOT: from <
// The head frees a memory block for 128 words a token, the others sixteen for 4096.
// LESS: stream.array %x, @up design = "adder-tree" {stage
// LESS: stream.array %w, @down design = "adder-tree" from <0, 4096 x 64, ahead = 32>
// LESS: stream.array %z, @head design = "adder-tree" from <32768, 128 x 64, ahead = 32>
