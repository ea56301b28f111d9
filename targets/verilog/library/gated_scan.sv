// The gated recurrence, its state in a memory: s = saturate(floor(f * s / 2^BY + 1/2) + i), one beat a cycle, three cycles long.
//
// Context, once a row: bit 0 starts the sequence from zero (so does a reset), the bits above number the sequence.
// A row of fewer than four beats waits for the one before it, whose state is still on its way to the memory.
module gated_scan #(
    parameter int LANES = 1,
    parameter int BEATS = 256,
    parameter int SEQUENCES = 1,
    parameter int CONTEXT = 2,
    parameter int F = 18,
    parameter int I = 18,
    parameter int S = 18,
    parameter int BY = 16
) (
    input  logic                 clock,
    input  logic                 reset,
    input  logic [CONTEXT-1:0]   context_data,
    input  logic                 context_valid,
    output logic                 context_ready,
    input  logic [LANES*F-1:0]   f_data,
    input  logic                 f_valid,
    output logic                 f_ready,
    input  logic [LANES*I-1:0]   i_data,
    input  logic                 i_valid,
    output logic                 i_ready,
    output logic [LANES*S-1:0]   s_data,
    output logic                 s_valid,
    input  logic                 s_ready
);
  localparam int WORDS = SEQUENCES * BEATS;
  localparam int ADDRESS = WORDS > 1 ? $clog2(WORDS) : 1;
  localparam int COUNT = BEATS > 1 ? $clog2(BEATS) : 1;
  localparam int NUMBER = SEQUENCES > 1 ? $clog2(SEQUENCES) : 1;
  localparam int SUM = (F + S > I ? F + S : I) + 2;
  localparam logic signed [SUM-1:0] HIGH = SUM'((64'd1 << (S - 1)) - 64'd1);
  localparam logic signed [SUM-1:0] LOW = -HIGH - SUM'(1);
  localparam logic signed [SUM-1:0] HALF = BY > 0 ? SUM'(64'd1 << (BY > 0 ? BY - 1 : 0)) : '0;

  logic [LANES*S-1:0] memory[WORDS];
  logic [SEQUENCES-1:0] begun;
  logic [COUNT-1:0] beat;
  logic [2:0] busy;
  logic advance, fire, last, fresh, waits;
  logic [31:0] sequence_number;

  assign sequence_number = SEQUENCES > 1 ? 32'(context_data >> 1) : 32'd0;
  assign last = beat == COUNT'(BEATS - 1);
  assign waits = BEATS < 4 && beat == '0 && busy != '0;
  assign advance = !busy[2] || s_ready;
  assign fire = context_valid && f_valid && i_valid && advance && !waits;
  assign f_ready = fire;
  assign i_ready = fire;
  assign context_ready = fire && last;
  assign s_valid = busy[2];
  assign fresh = context_data[0] || !begun[NUMBER'(sequence_number)];

  always_ff @(posedge clock)
    if (reset) begin
      beat <= '0;
      busy <= '0;
      begun <= '0;
    end else if (advance) begin
      busy <= {busy[1:0], fire};
      if (fire) begin
        beat <= last ? '0 : beat + 1'b1;
        if (last) begun[NUMBER'(sequence_number)] <= 1'b1;
      end
    end

  logic [ADDRESS-1:0] address_0, address_1, address_2;
  logic fresh_1;
  logic [LANES*S-1:0] state_1;
  logic [LANES*F-1:0] f_1;
  logic [LANES*I-1:0] i_1, i_2;
  logic [LANES*(F+S)-1:0] product_2;
  logic [LANES*S-1:0] s_2;
  assign address_0 = ADDRESS'(sequence_number * BEATS + 32'(beat));
  always_ff @(posedge clock)
    if (advance) begin
      address_1 <= address_0;
      address_2 <= address_1;
      state_1 <= memory[address_0];
      fresh_1 <= fresh;
      f_1 <= f_data;
      i_1 <= i_data;
      i_2 <= i_1;
      s_data <= s_2;
    end
  always_ff @(posedge clock) if (advance && busy[1]) memory[address_2] <= s_2;

  for (genvar lane = 0; lane < LANES; lane++) begin : lanes
    logic signed [F-1:0] f;
    logic signed [S-1:0] s;
    logic signed [F+S-1:0] product;
    logic signed [I-1:0] i;
    logic signed [SUM-1:0] sum;
    assign f = f_1[lane*F+:F];
    assign s = fresh_1 ? '0 : state_1[lane*S+:S];
    always_ff @(posedge clock) if (advance) product_2[lane*(F+S)+:F+S] <= (F + S)'(f) * (F + S)'(s);
    assign product = product_2[lane*(F+S)+:F+S];
    assign i = i_2[lane*I+:I];
    assign sum = ((SUM'(product) + HALF) >>> BY) + SUM'(i);
    assign s_2[lane*S+:S] = sum > HIGH ? S'(HIGH) : sum < LOW ? S'(LOW) : S'(sum);
  end
endmodule
