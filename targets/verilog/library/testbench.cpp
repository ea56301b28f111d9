// Drives @TOP@: tokens in, with gaps, results out, with pauses. Written by `sterna compile --target verilog`.
//
// simulate TOKENS BEATS GENERATE GAPS PAUSES SEED CYCLES
//   TOKENS   lines "token starts sequence"      BEATS    lines "stream cycle data", stream -1 being the result
//   GENERATE results that are fed back          GAPS, PAUSES  in 256ths of all cycles
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <string>

#include "V@TOP@.h"
#include "verilated.h"
@ROOT@

static FILE* beats;

static void put(uint64_t value, int bits) {
  if (bits < 64) value &= (uint64_t(1) << bits) - 1;
  std::fprintf(beats, "%llx", static_cast<unsigned long long>(value));
}

template <std::size_t N>
static void put(const VlWide<N>& value, int) {
  for (int n = N - 1; n >= 0; n--) std::fprintf(beats, "%08x", value[n]);
}

template <typename Data>
static void trace(int stream, bool moved, const Data& data, int bits, uint64_t cycle) {
  if (!moved) return;
  std::fprintf(beats, "%d %llu ", stream, static_cast<unsigned long long>(cycle));
  put(data, bits);
  std::fputc('\n', beats);
}

static uint64_t low_bits(uint64_t value) { return value; }
template <std::size_t N>
static uint64_t low_bits(const VlWide<N>& value) {
  return value[0];
}

struct Token {
  uint64_t token;
  int starts, sequence;
};

int main(int argc, char** argv) {
  if (argc != 8) {
    std::fprintf(stderr, "usage: %s TOKENS BEATS GENERATE GAPS PAUSES SEED CYCLES\n", argv[0]);
    return 2;
  }
  std::deque<Token> tokens;
  FILE* source = std::fopen(argv[1], "r");
  beats = std::fopen(argv[2], "w");
  if (!source || !beats) {
    std::fprintf(stderr, "error: cannot open %s\n", source ? argv[2] : argv[1]);
    return 1;
  }
  unsigned long long token;
  int starts, sequence;
  while (std::fscanf(source, "%llu %d %d", &token, &starts, &sequence) == 3) tokens.push_back({token, starts, sequence});
  const uint64_t given = tokens.size(), generate = std::atoll(argv[3]);
  const unsigned gaps = std::atoi(argv[4]), pauses = std::atoi(argv[5]);
  const uint64_t most = std::atoll(argv[7]);
  uint64_t noise = std::atoll(argv[6]) * 0x9e3779b97f4a7c15ull + 1;
  auto chance = [&noise](unsigned of_256) {
    noise ^= noise << 13;
    noise ^= noise >> 7;
    noise ^= noise << 17;
    return ((noise >> 24) & 255) < of_256;
  };

  VerilatedContext context;
  context.randReset(2);
  V@TOP@ dut{&context};
  dut.aresetn = 0;
  dut.s_axis_tvalid = 0;
  dut.m_axis_tready = 0;
  for (int edge = 0; edge < 8; edge++) {
    dut.aclk = edge & 1;
    dut.eval();
  }
  dut.aresetn = 1;

  uint64_t cycle = 0, results = 0, result_beats = 0, generated = 0;
  const uint64_t wanted = given + generate;
  while (results < wanted && cycle < most) {
    // AXI4-Stream: what is offered stays until it is taken.
    if (!dut.s_axis_tvalid && !tokens.empty() && !chance(gaps)) {
      dut.s_axis_tvalid = 1;
      dut.s_axis_tdata = tokens.front().token;
      dut.s_axis_tuser = tokens.front().starts;
      dut.s_axis_tid = tokens.front().sequence;
    }
    dut.m_axis_tready = !chance(pauses);
    dut.aclk = 0;
    dut.eval();
    const bool sent = dut.s_axis_tvalid && dut.s_axis_tready;
    if (dut.m_axis_tvalid && dut.m_axis_tready) {
      trace(-1, true, dut.m_axis_tdata, @RESULT_BITS@, cycle);
      if (++result_beats % @RESULT_BEATS@ == 0) {
        results++;
        if (results >= given && generated < generate) {
          tokens.push_back({low_bits(dut.m_axis_tdata), 0, 0});
          generated++;
        }
      }
    }
    @TRACED@
    dut.aclk = 1;
    dut.eval();
    if (sent) {
      tokens.pop_front();
      dut.s_axis_tvalid = 0;
    }
    cycle++;
  }
  std::fprintf(beats, "end %llu 0\n", static_cast<unsigned long long>(cycle));
  std::fclose(beats);
  if (results < wanted) {
    std::fprintf(stderr, "error: %llu of %llu results after %llu cycles\n", static_cast<unsigned long long>(results),
                 static_cast<unsigned long long>(wanted), static_cast<unsigned long long>(cycle));
    return 1;
  }
  return 0;
}
