// The row of a read-only memory that each token names, a beat a cycle, two cycles after the token.
module row_lookup #(
    parameter int ROWS = 256,
    parameter int BEATS = 16,  // of a row
    parameter int WIDTH = 16,  // of a beat
    parameter int TOKEN = 9,
    parameter IMAGE = ""
) (
    input  logic             clock,
    input  logic             reset,
    input  logic [TOKEN-1:0] token_data,
    input  logic             token_valid,
    output logic             token_ready,
    output logic [WIDTH-1:0] row_data,
    output logic             row_valid,
    input  logic             row_ready
);
  localparam int ADDRESS = ROWS * BEATS > 1 ? $clog2(ROWS * BEATS) : 1;
  localparam int COUNT = BEATS > 1 ? $clog2(BEATS) : 1;
  logic [WIDTH-1:0] memory[ROWS*BEATS];
  if (IMAGE != "") begin : image
    initial $readmemh(IMAGE, memory);
  end

  logic [COUNT-1:0] beat;
  logic [ADDRESS-1:0] address;
  logic advance, last, addressed;
  assign last = beat == COUNT'(BEATS - 1);
  assign advance = !row_valid || row_ready;
  assign token_ready = token_valid && advance && last;
  always_ff @(posedge clock)
    if (reset) begin
      beat <= '0;
      addressed <= 1'b0;
      row_valid <= 1'b0;
    end else if (advance) begin
      if (token_valid) beat <= last ? '0 : beat + 1'b1;
      addressed <= token_valid;
      row_valid <= addressed;
    end
  always_ff @(posedge clock)
    if (advance) begin
      address <= ADDRESS'(32'(token_data) * BEATS + 32'(beat));
      row_data <= memory[address];
    end
endmodule
