// y = second ? b : a; on Xilinx two bits a look-up table, which has two outputs of the same five inputs.
//
// STERNA_XILINX selects the primitive, which a synthesizer does not infer; a test proves it equal to the plain choice.
module choose2 #(
    parameter int WIDTH = 8
) (
    input  logic [WIDTH-1:0] a,
    input  logic [WIDTH-1:0] b,
    input  logic             second,
    output logic [WIDTH-1:0] y
);
`ifdef STERNA_XILINX
  // I0 = a, I1 = b of the even bit, I2 = a, I3 = b of the odd one, I4 = second; O5 = the even bit, O6 the odd one.
  for (genvar n = 0; n < WIDTH; n += 2) begin : pairs
    if (n + 1 < WIDTH) begin : both
      LUT6_2 #(.INIT(64'hff00_f0f0_cccc_aaaa)) choice (
          .I0(a[n]), .I1(b[n]), .I2(a[n+1]), .I3(b[n+1]), .I4(second), .I5(1'b1), .O5(y[n]), .O6(y[n+1]));
    end else begin : last
      assign y[n] = second ? b[n] : a[n];
    end
  end
`else
  assign y = second ? b : a;
`endif
endmodule
