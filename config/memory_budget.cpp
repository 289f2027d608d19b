// Adds up the bounds that the settings set.
#include "config/memory_budget.hpp"

#include <algorithm>

namespace sluice::config {

namespace {

// An entry of the dedupe window, with its share of the hash table.
constexpr std::uint64_t kDedupeKeyBytes = 32;
constexpr std::uint64_t kRejectsPendingBytes = 1ULL << 20;
constexpr std::uint64_t kBlockBytes = 256ULL << 10;
constexpr std::uint64_t kBlocksKeptBytes = 2ULL << 20;  // while rows are refused
// A named producer's last line, in a list by age and a hash table into it.
constexpr std::uint64_t kProducerBytes = 128;

}  // namespace

std::vector<MemoryShare> memory_budget(const Settings& settings) {
  std::vector<MemoryShare> shares = {
      {"events on their way to the spool or to Postgres (ingest.queue_bytes_max)",
       settings.ingest.queue_bytes_max},
      // One line may always grow to its end, whatever the others hold.
      {"lines not yet ended (8MiB and one ingest.line_bytes_max)",
       kPartialLineBytesMax + settings.ingest.line_bytes_max},
      {"dedupe keys, when all are taken (dedupe.keys_max)",
       settings.dedupe.keys_max * kDedupeKeyBytes},
      {"rows on their way (postgres.lanes x batch_bytes_max)",
       settings.postgres.lanes * settings.postgres.batch_bytes_max},
      {"named producers (spool.producers_max)", settings.spool.producers_max * kProducerBytes},
  };
  if (settings.spool.on_disk()) {
    shares.push_back(
        {"refused lines on their way to the dead letters (1MiB and one "
         "ingest.line_bytes_max)",
         kRejectsPendingBytes + settings.ingest.line_bytes_max});
    // A block is closed at 256 KiB, but takes one line whole.
    shares.push_back({"blocks read back from the spool, 2MiB and one for each of postgres.lanes",
                      settings.postgres.lanes *
                          (kBlocksKeptBytes + kBlockBytes + settings.ingest.line_bytes_max)});
  }
  return shares;
}

std::uint64_t memory_budget_bytes(const Settings& settings) {
  std::uint64_t sum = 0;
  for (const MemoryShare& share : memory_budget(settings)) sum += share.bytes;
  return sum;
}

}  // namespace sluice::config
