// How long the line splitter takes for a line, by the size of the reads.
#include <benchmark/benchmark.h>

#include "bench/micro/sample_events.hpp"
#include "ingest/line_splitter.hpp"

namespace {

using namespace sluice;

void split_reads(benchmark::State& state) {
  std::string stream;
  while (stream.size() < (std::size_t{4} << 20)) {
    for (const std::string& line : bench::sample_lines()) stream.append(line) += '\n';
  }
  const auto read_bytes = static_cast<std::size_t>(state.range(0));
  ingest::LineSplitter splitter(std::size_t{1} << 20);
  std::int64_t lines = 0;
  std::int64_t bytes = 0;
  std::size_t at = 0;
  for (auto _ : state) {
    const std::string_view read = std::string_view(stream).substr(at, read_bytes);
    splitter.feed(read, [&lines](const ingest::Line& line) {
      benchmark::DoNotOptimize(line.text.data());
      ++lines;
    });
    bytes += static_cast<std::int64_t>(read.size());
    at = at + read.size() < stream.size() ? at + read.size() : 0;
  }
  state.SetBytesProcessed(bytes);
  state.SetItemsProcessed(lines);
}
BENCHMARK(split_reads)->Arg(200)->Arg(4096)->Arg(64 * 1024);

}  // namespace
