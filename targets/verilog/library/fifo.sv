// A queue of DEPTH beats with valid and ready on both sides. A beat can leave one cycle after it came; from a queue of more
// than 32, which lives in block memory, two cycles after.
//
// With STERNA_STALLS defined, for simulation, each end pauses at random: what a design computes must not change.
module fifo #(
    parameter int WIDTH = 8,
    parameter int DEPTH = 2,
    parameter int SEED = 1  // of the pauses
) (
    input  logic             clock,
    input  logic             reset,
    input  logic [WIDTH-1:0] in_data,
    input  logic             in_valid,
    output logic             in_ready,
    output logic [WIDTH-1:0] out_data,
    output logic             out_valid,
    input  logic             out_ready
);
  logic pause_in, pause_out;
`ifdef STERNA_STALLS
  logic [31:0] noise;
  always_ff @(posedge clock)
    if (reset) noise <= 32'(SEED) * 32'd2654435761 | 32'd1;
    else noise <= {noise[30:0], noise[31] ^ noise[21] ^ noise[1] ^ noise[0]};
  assign pause_in = noise[4:3] == 2'd0;
  assign pause_out = noise[12:11] == 2'd0;
`else
  assign pause_in = 1'b0;
  assign pause_out = 1'b0;
  localparam int UNUSED_SEED = SEED;
  wire unused = &{1'b0, UNUSED_SEED[0]};
`endif

  localparam int ADDRESS = DEPTH > 1 ? $clog2(DEPTH) : 1;
  localparam logic [ADDRESS-1:0] LAST = ADDRESS'(DEPTH - 1);
  // A word is never read in the cycle that writes it: Yosys need not build a way around the memory for that.
  (* no_rw_check *) logic [WIDTH-1:0] memory[DEPTH];
  logic [ADDRESS-1:0] write_at, read_at;
  logic [$clog2(DEPTH+1)-1:0] held;
  logic full, empty, push, take;

  assign full = held == ($clog2(DEPTH + 1))'(DEPTH);
  assign empty = held == '0;
  assign in_ready = !full && !pause_in;
  assign push = in_valid && in_ready;

  always_ff @(posedge clock) begin
    if (reset) begin
      write_at <= '0;
      read_at <= '0;
      held <= '0;
    end else begin
      if (push) write_at <= write_at == LAST ? '0 : write_at + 1'b1;
      if (take) read_at <= read_at == LAST ? '0 : read_at + 1'b1;
      if (push && !take) held <= held + 1'b1;
      if (take && !push) held <= held - 1'b1;
    end
  end
  always_ff @(posedge clock) if (push) memory[write_at] <= in_data;

  if (DEPTH > 32) begin : block_memory
    // The word that leaves next stands in the memory's output register.
    logic present;
    assign take = !empty && (!present || (out_valid && out_ready));
    assign out_valid = present && !pause_out;
    always_ff @(posedge clock) if (take) out_data <= memory[read_at];
    always_ff @(posedge clock)
      if (reset) present <= 1'b0;
      else if (take) present <= 1'b1;
      else if (out_valid && out_ready) present <= 1'b0;
  end else begin : registers
    assign out_data = memory[read_at];
    assign out_valid = !empty && !pause_out;
    assign take = out_valid && out_ready;
  end
endmodule
