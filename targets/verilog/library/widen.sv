// RATIO beats become one, the first in the lowest bits.
module widen #(
    parameter int WIDTH = 8,  // of a beat that comes in
    parameter int RATIO = 2
) (
    input  logic                    clock,
    input  logic                    reset,
    input  logic [WIDTH-1:0]        in_data,
    input  logic                    in_valid,
    output logic                    in_ready,
    output logic [RATIO*WIDTH-1:0]  out_data,
    output logic                    out_valid,
    input  logic                    out_ready
);
  localparam int COUNT = $clog2(RATIO);
  logic [COUNT-1:0] held;
  assign in_ready = !out_valid || out_ready;
  always_ff @(posedge clock)
    if (reset) begin
      held <= '0;
      out_valid <= 1'b0;
    end else if (in_valid && in_ready) begin
      held <= held == COUNT'(RATIO - 1) ? '0 : held + 1'b1;
      out_valid <= held == COUNT'(RATIO - 1);
    end else if (out_ready) begin
      out_valid <= 1'b0;
    end
  always_ff @(posedge clock)
    if (in_valid && in_ready) out_data <= {in_data, out_data[RATIO*WIDTH-1:WIDTH]};
endmodule
