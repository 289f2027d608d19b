// What it costs to hand a chunk from a connection to the journal, by the number of connections.
#include <benchmark/benchmark.h>

#include <memory>
#include <vector>

#include "ingest/event_queue.hpp"
#include "spool/byte_budget.hpp"
#include "spool/chunk.hpp"

namespace {

using namespace sluice;

void push_and_pop(benchmark::State& state) {
  ingest::EventQueue queue([] {});
  std::vector<std::unique_ptr<ingest::EventQueue::Producer>> producers;
  for (std::int64_t n = 0; n < state.range(0); ++n) producers.push_back(queue.make_producer());
  std::size_t next = 0;
  for (auto _ : state) {
    queue.push(*producers[next++ % producers.size()], spool::Chunk(), {});
    spool::Chunk chunk;
    ingest::Origin origin;
    if (!queue.pop(chunk, origin)) {
      state.SkipWithError("the queue lost a chunk");
      break;
    }
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(push_and_pop)->Arg(1)->Arg(10)->Arg(1000);

}  // namespace
