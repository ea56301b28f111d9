// A row of ternary weights that change in every cycle, against SIMD activations: one adder tree, no multiplier.
//
// A weight is two bits, {negative, nonzero}. A product is the activation, its complement, or zero; the +1 that completes a
// negation enters an adder of the tree as its carry, one a level: each node hands one such carry ("pending") upwards.
//
// Timing: initiation interval 1; `sum` follows `x` by $clog2(SIMD) + 1 cycles of `advance`, and holds the sum of all rows of
// activations since the last one with `first`.
module ternary_adder_tree #(
    parameter int SIMD = 64,
    parameter int WIDTH = 8,  // of an activation
    parameter int SUM = 32    // of the result: wide enough by proof, nothing here saturates
) (
    input  logic                    clock,
    input  logic                    advance,
    input  logic                    first,
    input  logic [SIMD*WIDTH-1:0]   x,
    input  logic [SIMD*2-1:0]       w,
    output logic signed [SUM-1:0]   sum
);
  localparam int LEVELS = $clog2(SIMD);
  localparam int LEAVES = 1 << LEVELS;

  for (genvar level = 0; level <= LEVELS; level++) begin : tree
    localparam int NODES = LEAVES >> level;
    localparam int BITS = WIDTH + level;
    logic [NODES*BITS-1:0] value;
    logic [NODES-1:0] pending;
    logic restart;

    if (level == 0) begin : leaves
      assign restart = first;
      for (genvar k = 0; k < LEAVES; k++) begin : leaf
        if (k < SIMD) begin : product
          assign value[k*BITS+:BITS] = (x[k*WIDTH+:WIDTH] ^ {WIDTH{w[2*k+1]}}) & {WIDTH{w[2*k]}};
          assign pending[k] = w[2*k+1];
        end else begin : padding
          assign value[k*BITS+:BITS] = '0;
          assign pending[k] = 1'b0;
        end
      end
    end else begin : adders
      always_ff @(posedge clock) if (advance) restart <= tree[level-1].restart;
      for (genvar n = 0; n < NODES; n++) begin : node
        logic carry_out_of_nothing;  // the bit below the least significant one makes the carry
        logic [BITS-1:0] total;
        assign {total, carry_out_of_nothing} =
            (BITS+1)'($signed({tree[level-1].value[2*n*(BITS-1)+:BITS-1], 1'b1})) +
            (BITS+1)'($signed({tree[level-1].value[(2*n+1)*(BITS-1)+:BITS-1], tree[level-1].pending[2*n]}));
        always_ff @(posedge clock)
          if (advance) begin
            value[n*BITS+:BITS] <= total;
            pending[n] <= tree[level-1].pending[2*n+1];
          end
        wire unused = &{1'b0, carry_out_of_nothing};
      end
    end
  end

  logic carry_out_of_nothing;
  logic signed [SUM-1:0] total;
  assign {total, carry_out_of_nothing} =
      {tree[LEVELS].restart ? SUM'(0) : sum, 1'b1} +
      (SUM+1)'($signed({tree[LEVELS].value, tree[LEVELS].pending[0]}));
  always_ff @(posedge clock) if (advance) sum <= total;
  wire unused = &{1'b0, carry_out_of_nothing};
endmodule
