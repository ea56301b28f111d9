// Gives every beat to each of COPIES readers, which take it when they can; the next beat comes when all have this one.
module fork_stream #(
    parameter int WIDTH = 8,
    parameter int COPIES = 2
) (
    input  logic                          clock,
    input  logic                          reset,
    input  logic [WIDTH-1:0]              in_data,
    input  logic                          in_valid,
    output logic                          in_ready,
    output logic [COPIES-1:0][WIDTH-1:0]  out_data,
    output logic [COPIES-1:0]             out_valid,
    input  logic [COPIES-1:0]             out_ready
);
  logic [COPIES-1:0] done;
  assign out_data = {COPIES{in_data}};
  assign out_valid = {COPIES{in_valid}} & ~done;
  assign in_ready = &(done | out_ready);
  always_ff @(posedge clock)
    if (reset) done <= '0;
    else if (in_valid) done <= in_ready ? '0 : done | out_ready;
endmodule
