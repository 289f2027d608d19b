// How long the event parser takes for a line.
#include <benchmark/benchmark.h>

#include "bench/micro/sample_events.hpp"
#include "ingest/event_parser.hpp"
#include "spool/byte_budget.hpp"
#include "spool/chunk.hpp"

namespace {

using namespace sluice;

constexpr std::size_t kChunkBytes = 128 * 1024;

void parse_lines(benchmark::State& state) {
  const std::vector<std::string> lines = bench::sample_lines();
  ingest::IngestCounters counters;
  ingest::EventParser parser({}, counters);
  spool::ByteBudget budget(std::size_t{64} << 20);
  spool::Chunk chunk(budget, kChunkBytes);
  std::size_t next = 0;
  std::int64_t bytes = 0;
  for (auto _ : state) {
    const std::string& line = lines[next++ % lines.size()];
    if (parser.parse(line, {1'767'225'600'000'000, 1000}, chunk)) {
      state.SkipWithError("a sample line was refused");
      break;
    }
    if (chunk.bytes().size() + 1024 > kChunkBytes) chunk = spool::Chunk(budget, kChunkBytes);
    bytes += static_cast<std::int64_t>(line.size());
  }
  state.SetBytesProcessed(bytes);
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(parse_lines);

}  // namespace
