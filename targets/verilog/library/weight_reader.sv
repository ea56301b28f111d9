// Reads the weights of ARRAYS arrays from memory over AXI4, each array's from its own region, in order, again and again.
//
// Every array has a queue of AHEAD beats. A burst is asked for when its queue has room for all of it, so that what comes is
// always taken; arrays take turns. Bursts are BURST beats long, the last of a region what is left; BURST beats are a page of
// 4096 bytes or a power of two less, and a region begins on a page, so no burst crosses one. All have one ID: they come in order.
module weight_reader #(
    parameter int ARRAYS = 2,
    parameter int WIDTH = 64,  // of the memory, in bits
    parameter int BURST = 16,
    parameter int AHEAD = 32,
    parameter logic [31:0] BASE = 0,  // of the memory's image
    parameter logic [32*ARRAYS-1:0] AT = 0,  // of each region, from there, 32 bits an array
    parameter logic [32*ARRAYS-1:0] BEATS = 0
) (
    input  logic                          clock,
    input  logic                          reset,
    output logic [31:0]                   araddr,
    output logic [7:0]                    arlen,
    output logic                          arvalid,
    input  logic                          arready,
    input  logic [WIDTH-1:0]              rdata,
    input  logic [1:0]                    rresp,
    input  logic                          rlast,
    input  logic                          rvalid,
    output logic                          rready,
    output logic                          failed,  // a read gave an error, some time since the reset
    output logic [ARRAYS-1:0][WIDTH-1:0]  beat_data,
    output logic [ARRAYS-1:0]             beat_valid,
    input  logic [ARRAYS-1:0]             beat_ready
);
  localparam int INDEX = ARRAYS > 1 ? $clog2(ARRAYS) : 1;
  localparam int ROOM = $clog2(AHEAD + 1);
  localparam int OUTSTANDING = 8;
  localparam logic [31:0] LONGEST = BURST;

  logic [ARRAYS-1:0][ROOM-1:0] room;  // of each queue, less what was asked for
  logic [ARRAYS-1:0][31:0] position;  // in each region, in beats
  logic [ARRAYS-1:0] wanting, later;
  logic [INDEX-1:0] turn, next_turn;
  for (genvar n = 0; n < ARRAYS; n++) begin : arrays
    assign wanting[n] = room[n] >= ROOM'(BURST);
    if (n == 0) begin : first
      assign later[n] = 1'b0;
    end else begin : others
      assign later[n] = wanting[n] && turn < INDEX'(n);
    end
  end
  always_comb begin
    next_turn = turn;
    for (int n = ARRAYS - 1; n >= 0; n--) if (wanting[n]) next_turn = INDEX'(n);
    for (int n = ARRAYS - 1; n >= 0; n--) if (later[n]) next_turn = INDEX'(n);
  end

  // A burst takes three cycles or more: an array is chosen, its address is made, the memory takes it.
  logic chosen, ask, owed;
  logic [31:0] left;
  logic [7:0] last;
  assign left = BEATS[32*turn+:32] - position[turn];
  assign last = left < LONGEST ? 8'(left - 1) : 8'(BURST - 1);
  assign ask = chosen && !arvalid && owed;
  always_ff @(posedge clock)
    if (reset) begin
      chosen <= 1'b0;
      turn <= '0;
      arvalid <= 1'b0;
    end else begin
      if (!chosen && |wanting) begin
        turn <= next_turn;
        chosen <= 1'b1;
      end else if (ask) chosen <= 1'b0;
      if (ask) arvalid <= 1'b1;
      else if (arready) arvalid <= 1'b0;
    end
  always_ff @(posedge clock)
    if (ask) begin
      araddr <= BASE + AT[32*turn+:32] + position[turn] * (WIDTH / 8);
      arlen <= last;
    end
  always_ff @(posedge clock)
    if (reset) position <= '0;
    else if (ask) position[turn] <= left <= LONGEST ? '0 : position[turn] + LONGEST;

  // Whose bursts are on their way, in order.
  logic [INDEX-1:0] owner;
  logic expected;
  fifo #(.WIDTH(INDEX), .DEPTH(OUTSTANDING), .SEED(77)) owners (
      .clock, .reset, .in_data(turn), .in_valid(chosen && !arvalid), .in_ready(owed),
      .out_data(owner), .out_valid(expected), .out_ready(rvalid && rready && rlast));
  logic [ARRAYS-1:0] accepts;
  assign rready = expected && accepts[owner];
  always_ff @(posedge clock)
    if (reset) failed <= 1'b0;
    else if (rvalid && rready && rresp[1]) failed <= 1'b1;

  for (genvar n = 0; n < ARRAYS; n++) begin : queues
    fifo #(.WIDTH(WIDTH), .DEPTH(AHEAD), .SEED(100 + n)) ahead (
        .clock, .reset, .in_data(rdata), .in_valid(rvalid && expected && owner == INDEX'(n)), .in_ready(accepts[n]),
        .out_data(beat_data[n]), .out_valid(beat_valid[n]), .out_ready(beat_ready[n]));
    always_ff @(posedge clock)
      if (reset) room[n] <= ROOM'(AHEAD);
      else
        room[n] <= room[n] - (ask && turn == INDEX'(n) ? ROOM'(last) + 1'b1 : '0)
            + ROOM'(beat_valid[n] && beat_ready[n]);
  end
  wire unused = &{1'b0, rresp[0]};
endmodule
