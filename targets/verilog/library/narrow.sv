// One beat becomes RATIO, the lowest bits first.
module narrow #(
    parameter int WIDTH = 8,  // of a beat that goes out
    parameter int RATIO = 2
) (
    input  logic                    clock,
    input  logic                    reset,
    input  logic [RATIO*WIDTH-1:0]  in_data,
    input  logic                    in_valid,
    output logic                    in_ready,
    output logic [WIDTH-1:0]        out_data,
    output logic                    out_valid,
    input  logic                    out_ready
);
  localparam int COUNT = $clog2(RATIO);
  logic [RATIO-1:0][WIDTH-1:0] pieces;
  logic [COUNT-1:0] left;
  logic last;
  assign last = left == '0;
  assign out_data = pieces[0];
  assign in_ready = !out_valid || (last && out_ready);
  always_ff @(posedge clock)
    if (reset) begin
      out_valid <= 1'b0;
      left <= '0;
    end else if (in_valid && in_ready) begin
      out_valid <= 1'b1;
      left <= COUNT'(RATIO - 1);
    end else if (out_ready) begin
      out_valid <= out_valid && !last;
      if (!last) left <= left - 1'b1;
    end
  always_ff @(posedge clock)
    if (in_valid && in_ready) pieces <= in_data;
    else if (out_ready) pieces <= {WIDTH'(0), pieces[RATIO-1:1]};
endmodule
