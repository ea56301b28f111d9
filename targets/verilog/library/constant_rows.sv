// A read-only memory with one clock of latency.
module constant_rows #(
    parameter int WORDS = 256,
    parameter int WIDTH = 16,
    parameter IMAGE = ""
) (
    input  logic                                       clock,
    input  logic                                       advance,
    input  logic [(WORDS > 1 ? $clog2(WORDS) : 1)-1:0] address,
    output logic [WIDTH-1:0]                           data
);
  logic [WIDTH-1:0] memory[WORDS];
  if (IMAGE != "") begin : image
    initial $readmemh(IMAGE, memory);
  end
  always_ff @(posedge clock) if (advance) data <= memory[address];
endmodule
