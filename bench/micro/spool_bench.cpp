// What the spool on disk costs: a group commit of 256 KiB, one of a single event, and reading a
// backlog back. In a temporary directory below the working directory: run it on the disk in
// question.
#include <benchmark/benchmark.h>

#include <filesystem>
#include <map>
#include <memory>
#include <vector>

#include "bench/micro/sample_events.hpp"
#include "ingest/event_parser.hpp"
#include "ingest/ingest_counters.hpp"
#include "spool/disk_spool.hpp"
#include "spool/posix_disk.hpp"
#include "tests/support/silent_spool_reporter.hpp"

namespace {

using namespace sluice;

// A spool in a directory of its own, and chunks for it.
class Place {
 public:
  explicit Place(spool::Durability durability) {
    std::filesystem::remove_all(kDirectory);
    std::filesystem::create_directory(kDirectory);
    disk_ = std::make_unique<spool::PosixDisk>(kDirectory);
    spool::DiskSpoolOptions options;
    options.lanes = 1;
    options.durability = durability;
    options.retain_bytes = 0;
    spool_ = std::make_unique<spool::DiskSpool>(options, *disk_, producers_, reporter_,
                                                spool::DiskSpool::Callbacks{}, now_);
  }
  ~Place() {
    spool_.reset();
    std::filesystem::remove_all(kDirectory);
  }

  // Events that come to about so many bytes of records, in one chunk.
  spool::Chunk chunk(std::size_t bytes) {
    const auto lines = bench::sample_lines();
    spool::Chunk chunk(budget_, bytes);
    for (std::size_t n = 0; chunk.empty() || chunk.bytes().size() < bytes; ++n) {
      if (parser_.parse(lines[n % lines.size()], {}, chunk)) std::abort();
    }
    return chunk;
  }
  void append(spool::Chunk chunk) {
    std::vector<spool::Chunk> chunks;
    chunks.push_back(std::move(chunk));
    if (!spool_->append(0, chunks, {}, now_)) std::abort();
  }
  // Reads and releases what there is.
  std::uint64_t drain() {
    auto& reader = spool_->reader(0);
    std::uint64_t events = 0;
    while (spool_->events_held() != 0) {
      const auto segment = reader.first_segment();
      spool::Position at{segment->id, at_[segment->id]};
      for (;;) {
        const auto found = reader.read(at);
        const auto* block = std::get_if<spool::BlockPtr>(&found);
        if (block == nullptr) break;
        events += (*block)->count;
        at.index = (*block)->end_index();
      }
      at_[at.segment] = at.index;
      reader.release(at);
      reader.confirm(at.segment);
    }
    spool_->tend(now_);
    return events;
  }

 private:
  static constexpr const char* kDirectory = "spool_bench.tmp";

  std::map<spool::Uuid, std::uint64_t> at_;
  spool::SpoolTime now_{1'767'225'600'000'000, 1'000};
  spool::ByteBudget budget_{1u << 30};
  ingest::IngestCounters counters_;
  ingest::EventParser parser_{{}, counters_};
  tests::SilentSpoolReporter reporter_;
  spool::ProducerTable producers_{100};
  std::unique_ptr<spool::PosixDisk> disk_;
  std::unique_ptr<spool::DiskSpool> spool_;
};

void append(benchmark::State& state, spool::Durability durability) {
  Place place(durability);
  const auto bytes = static_cast<std::size_t>(state.range(0));
  std::uint64_t events = 0;
  std::uint64_t unread = 0;
  for (auto _ : state) {
    state.PauseTiming();
    auto chunk = place.chunk(bytes);
    events += chunk.count();
    unread += bytes;
    if (unread > 512u << 20) {
      place.drain();
      unread = 0;
    }
    state.ResumeTiming();
    place.append(std::move(chunk));
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(events));
}
BENCHMARK_CAPTURE(append, power, spool::Durability::power)->Arg(1)->Arg(256 * 1024)->UseRealTime();
BENCHMARK_CAPTURE(append, process, spool::Durability::process)
    ->Arg(1)
    ->Arg(256 * 1024)
    ->UseRealTime();

void read_backlog(benchmark::State& state) {
  Place place(spool::Durability::process);
  std::uint64_t events = 0;
  for (auto _ : state) {
    state.PauseTiming();
    for (int i = 0; i < 200; ++i) place.append(place.chunk(256 * 1024));
    state.ResumeTiming();
    events += place.drain();
  }
  state.SetItemsProcessed(static_cast<std::int64_t>(events));
}
BENCHMARK(read_backlog)->UseRealTime();

}  // namespace
