// Adds up the bounds that the settings set.
#include "config/memory_budget.hpp"

#include <algorithm>

namespace sluice::config {

namespace {

// An entry of the dedupe window, with its share of the hash table.
constexpr std::uint64_t kDedupeKeyBytes = 32;

}  // namespace

std::vector<MemoryShare> memory_budget(const Settings& settings) {
  return {
      {"events that Postgres does not have yet (ingest.queue_bytes_max)",
       settings.ingest.queue_bytes_max},
      // One line may always grow to its end, whatever the others hold.
      {"lines not yet ended (8MiB and one ingest.line_bytes_max)",
       kPartialLineBytesMax + settings.ingest.line_bytes_max},
      {"dedupe keys, when all are taken (dedupe.keys_max)",
       settings.dedupe.keys_max * kDedupeKeyBytes},
      {"rows on their way (postgres.lanes x batch_bytes_max)",
       settings.postgres.lanes * settings.postgres.batch_bytes_max},
  };
}

std::uint64_t memory_budget_bytes(const Settings& settings) {
  std::uint64_t sum = 0;
  for (const MemoryShare& share : memory_budget(settings)) sum += share.bytes;
  return sum;
}

}  // namespace sluice::config
