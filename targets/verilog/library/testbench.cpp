// Drives @TOP@: tokens in, with gaps, results out, with pauses. Written by `sterna compile --target verilog`.
//
// simulate TOKENS BEATS GENERATE GAPS PAUSES SEED CYCLES [WAIT LATENCY STALLS]
//   TOKENS   lines "token starts sequence"      BEATS    lines "stream cycle data", stream -1 being the result
//   GENERATE results that are fed back          GAPS, PAUSES  in 256ths of all cycles
//   WAIT     cycles before the first token      LATENCY, STALLS  of the memory outside: cycles at most, 256ths
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

#define MEMORY_BYTES @MEMORY_BYTES@  // of a word of the memory outside; 0: the design has none
#if MEMORY_BYTES
#include <cstring>
#include <vector>

template <typename Data>
static void set_word(Data& port, const uint8_t* bytes) {
  std::memcpy(&port, bytes, MEMORY_BYTES);
}

// A memory behind an AXI4 read port. It holds what it says until that is taken, waits as it likes, and checks the design.
class Memory {
 public:
  bool load(const char* path) {
    FILE* file = std::fopen(path, "rb");
    if (!file) return false;
    for (int c; (c = std::fgetc(file)) != EOF;) bytes.push_back(c);
    std::fclose(file);
    return true;
  }

  template <typename Dut, typename Chance>
  void before_edge(Dut& dut, Chance chance, unsigned stalls) {
    dut.m_axi_arready = bursts.size() < 8 && !chance(stalls);
    if (!offered && !bursts.empty() && bursts.front().due <= now && !chance(stalls)) {
      const Burst& burst = bursts.front();
      set_word(dut.m_axi_rdata, &bytes[burst.at]);
      dut.m_axi_rlast = burst.left == 1;
      offered = true;
    }
    dut.m_axi_rvalid = offered;
    dut.m_axi_rresp = 0;
  }

  // Signals as they are right before the clock's edge.
  template <typename Dut>
  const char* at_edge(Dut& dut, uint64_t latency, uint64_t noise) {
    if (waiting && (!dut.m_axi_arvalid || dut.m_axi_araddr != address || dut.m_axi_arlen != length))
      return "ARVALID, ARADDR and ARLEN stay until ARREADY";
    waiting = dut.m_axi_arvalid && !dut.m_axi_arready;
    address = dut.m_axi_araddr;
    length = dut.m_axi_arlen;
    if (dut.m_axi_arvalid) {
      const uint64_t size = uint64_t(length + 1) * MEMORY_BYTES;
      if (dut.m_axi_arburst != 1 || 1 << dut.m_axi_arsize != MEMORY_BYTES) return "bursts are INCR, of whole words";
      if (address % MEMORY_BYTES || address / 4096 != (address + size - 1) / 4096) return "a burst stays in its page";
      if (address + size > bytes.size()) return "a burst stays in the memory's image";
    }
    if (dut.m_axi_arvalid && dut.m_axi_arready) {
      const uint64_t due = now + 1 + (latency ? noise % (latency + 1) : 0);
      bursts.push_back({address, length + 1, due});
    }
    if (offered && dut.m_axi_rready) {
      offered = false;
      words++;
      Burst& burst = bursts.front();
      burst.at += MEMORY_BYTES;
      if (--burst.left == 0) bursts.pop_front();
    }
    now++;
    return nullptr;
  }

  uint64_t words = 0;

 private:
  struct Burst {
    uint64_t at;
    int left;
    uint64_t due;
  };
  std::vector<uint8_t> bytes;
  std::deque<Burst> bursts;
  bool offered = false, waiting = false;
  uint64_t now = 0, address = 0;
  int length = 0;
};
#endif

struct Token {
  uint64_t token;
  int starts, sequence;
};

int main(int argc, char** argv) {
  if (argc != 8 && argc != 11) {
    std::fprintf(stderr, "usage: %s TOKENS BEATS GENERATE GAPS PAUSES SEED CYCLES [WAIT LATENCY STALLS]\n", argv[0]);
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
  const uint64_t wait = argc > 8 ? std::atoll(argv[8]) : 0;
#if MEMORY_BYTES
  const uint64_t latency = argc > 8 ? std::atoll(argv[9]) : 32;
  const unsigned stalls = argc > 8 ? std::atoi(argv[10]) : 32;
  Memory memory;
  if (!memory.load("@MEMORY_IMAGE@")) {
    std::fprintf(stderr, "error: cannot open @MEMORY_IMAGE@: run this in the project's folder\n");
    return 1;
  }
#endif
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
#if MEMORY_BYTES
  dut.m_axi_arready = dut.m_axi_rvalid = 0;
#endif
  for (int edge = 0; edge < 8; edge++) {
    dut.aclk = edge & 1;
    dut.eval();
  }
  dut.aresetn = 1;

  uint64_t cycle = 0, results = 0, result_beats = 0, generated = 0;
  const uint64_t wanted = given + generate;
  while (results < wanted && cycle < most) {
    // AXI4-Stream: what is offered stays until it is taken.
    if (!dut.s_axis_tvalid && !tokens.empty() && cycle >= wait && !chance(gaps)) {
      dut.s_axis_tvalid = 1;
      dut.s_axis_tdata = tokens.front().token;
      dut.s_axis_tuser = tokens.front().starts;
      dut.s_axis_tid = tokens.front().sequence;
    }
    dut.m_axis_tready = !chance(pauses);
#if MEMORY_BYTES
    memory.before_edge(dut, chance, stalls);
#endif
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
#if MEMORY_BYTES
    if (const char* broken = memory.at_edge(dut, latency, noise >> 24)) {
      std::fprintf(stderr, "error: AXI4, cycle %llu: %s\n", static_cast<unsigned long long>(cycle), broken);
      return 1;
    }
#endif
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
