// sum = a + b + c, with those negated whose bit is set in NEGATE ({c, b, a}; two at most): one look-up table a bit on
// Xilinx, where it compresses three bits to a sum and a majority, and the carry chain adds the majorities.
//
// STERNA_XILINX selects the primitives, which a synthesizer does not infer; tests prove them equal to the plain sum.
module add3 #(
    parameter int WIDTH = 10,
    parameter bit [2:0] NEGATE = 3'b000
) (
    input  logic [WIDTH-1:0] a,
    input  logic [WIDTH-1:0] b,
    input  logic [WIDTH-1:0] c,
    output logic [WIDTH-1:0] sum
);
`ifdef STERNA_XILINX
  // Function tables: I0 = a, I1 = b, I2 = c, I3 = the majority of the bit below; O5 = majority, O6 = sum.
  function automatic logic [63:0] table_of(input bit [2:0] negate);
    logic p, q, r;
    for (int i = 0; i < 32; i++) begin
      p = i[0] ^ negate[0];
      q = i[1] ^ negate[1];
      r = i[2] ^ negate[2];
      table_of[i] = (p & q) | (p & r) | (q & r);
      table_of[i+32] = p ^ q ^ r ^ i[3];
    end
  endfunction

  // A negation is the complement plus one: one such one enters the carry chain, the other as majority below bit 0.
  localparam int ONES = int'(NEGATE[0]) + int'(NEGATE[1]) + int'(NEGATE[2]);
  localparam int CARRIES = (WIDTH + 3) / 4;
  logic [WIDTH:0] majority;
  logic [4*CARRIES-1:0] propagate, generated, total;
  logic [4*CARRIES-1:0] carry;
  assign majority[0] = ONES > 1;

  for (genvar n = 0; n < 4 * CARRIES; n++) begin : bits
    if (n < WIDTH) begin : used
      LUT6_2 #(.INIT(table_of(NEGATE))) compress (
          .I0(a[n]), .I1(b[n]), .I2(c[n]), .I3(majority[n]), .I4(1'b0), .I5(1'b1),
          .O5(majority[n+1]), .O6(propagate[n]));
      assign generated[n] = majority[n];
      assign sum[n] = total[n];
    end else begin : spare
      assign propagate[n] = 1'b0;
      assign generated[n] = 1'b0;
    end
  end
  for (genvar n = 0; n < CARRIES; n++) begin : chain
    if (n == 0) begin : start
      CARRY4 adder (.CI(1'b0), .CYINIT(ONES > 0), .DI(generated[3:0]), .S(propagate[3:0]),
                    .O(total[3:0]), .CO(carry[3:0]));
    end else begin : next
      CARRY4 adder (.CI(carry[4*n-1]), .CYINIT(1'b0), .DI(generated[4*n+:4]), .S(propagate[4*n+:4]),
                    .O(total[4*n+:4]), .CO(carry[4*n+:4]));
    end
  end
`else
  assign sum = (NEGATE[0] ? -a : a) + (NEGATE[1] ? -b : b) + (NEGATE[2] ? -c : c);
`endif
endmodule
