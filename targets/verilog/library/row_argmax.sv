// The index of the greatest element of a row, the first of equal ones; one beat a cycle.
module row_argmax #(
    parameter int LANES = 1,
    parameter int BEATS = 256,
    parameter int WIDTH = 18,
    parameter int INDEX = 9
) (
    input  logic                    clock,
    input  logic                    reset,
    input  logic [LANES*WIDTH-1:0]  x_data,
    input  logic                    x_valid,
    output logic                    x_ready,
    output logic [INDEX-1:0]        index_data,
    output logic                    index_valid,
    input  logic                    index_ready
);
  localparam int COUNT = BEATS > 1 ? $clog2(BEATS) : 1;
  logic [COUNT-1:0] beat, beat_1;
  logic advance, fire, last, fire_1, last_1;
  assign advance = !index_valid || index_ready;
  assign fire = x_valid && advance;
  assign x_ready = fire;
  assign last = beat == COUNT'(BEATS - 1);

  // The greatest of a beat, then of the row so far.
  logic signed [WIDTH-1:0] greatest, greatest_1, most;
  logic [INDEX-1:0] lane_of, lane_1;
  always_comb begin
    greatest = x_data[WIDTH-1:0];
    lane_of = '0;
    for (int lane = 1; lane < LANES; lane++)
      if ($signed(x_data[lane*WIDTH+:WIDTH]) > greatest) begin
        greatest = x_data[lane*WIDTH+:WIDTH];
        lane_of = INDEX'(lane);
      end
  end
  always_ff @(posedge clock)
    if (reset) begin
      beat <= '0;
      fire_1 <= 1'b0;
      index_valid <= 1'b0;
    end else if (advance) begin
      if (fire) beat <= last ? '0 : beat + 1'b1;
      fire_1 <= fire;
      index_valid <= fire_1 && last_1;
    end
  always_ff @(posedge clock)
    if (advance) begin
      greatest_1 <= greatest;
      lane_1 <= lane_of;
      beat_1 <= beat;
      last_1 <= last;
      if (fire_1 && (beat_1 == '0 || greatest_1 > most)) begin
        most <= greatest_1;
        index_data <= INDEX'(32'(beat_1) * LANES) + lane_1;
      end
    end
endmodule
