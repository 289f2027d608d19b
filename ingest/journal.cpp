#include "ingest/journal.hpp"

#include <cstdlib>
#include <utility>

namespace sluice::ingest {
namespace {

// What one turn takes, duplicates included: a group commit of 256 KiB. Quiet connections' chunks
// are small, so their number is bounded too.
constexpr std::size_t kTakenBytesMax = 256 * 1024;
constexpr std::size_t kTakenChunksMax = 1024;

bool has_key(const spool::RecordHeader& header) {
  return (header.flags & (spool::kHasDedupeKey | spool::kHasIdKey)) != 0;
}

DedupeHash key_of(const spool::RecordHeader& header) {
  return {header.dedupe_hash[0], header.dedupe_hash[1]};
}

template <typename Visit>
void for_each_key(const spool::Chunk& chunk, Visit&& visit) {
  const auto bytes = chunk.bytes();
  for (std::size_t at = 0; at < bytes.size();) {
    const spool::RecordHeader& header = spool::EventView(bytes.data() + at).header();
    if (has_key(header)) visit(key_of(header));
    at += header.record_bytes;
  }
}

}  // namespace

Journal::Turn Journal::turn(const spool::SpoolTime& now) {
  const auto lane = spool_.lane_with_room(now);
  if (!lane) return Turn::spool_full;

  std::vector<spool::Chunk> chunks;
  std::size_t taken_bytes = 0;
  std::size_t taken_chunks = 0;
  std::uint64_t events = 0;
  spool::Chunk chunk;
  while (taken_bytes < kTakenBytesMax && taken_chunks < kTakenChunksMax && queue_.pop(chunk)) {
    ++taken_chunks;
    taken_bytes += chunk.bytes().size();
    admit(chunk, now);
    if (chunk.empty()) continue;
    events += chunk.count();
    chunks.push_back(std::move(chunk));
  }
  if (taken_chunks == 0) dedupe_.expire(now.steady_ms);
  counters_.dedupe_keys.store(dedupe_.keys(), std::memory_order_relaxed);
  counters_.dedupe_window_ms.store(
      static_cast<std::uint64_t>(dedupe_.effective_window_ms(now.steady_ms)),
      std::memory_order_relaxed);
  if (taken_chunks == 0) return Turn::queue_empty;
  if (!chunks.empty()) {
    if (!spool_.append(*lane, chunks, {}, now)) std::abort();  // only a disk says no
    add(counters_.events_journaled, events);
  }
  return Turn::worked;
}

// The window's table is far larger than the cache: asked for one by one, each key would wait for
// its bucket and then for the entry that it leads to. Two passes ahead fetch both for all of a
// chunk.
void Journal::admit(spool::Chunk& chunk, const spool::SpoolTime& now) {
  for_each_key(chunk, [&](const DedupeHash& hash) { dedupe_.prefetch_bucket(hash); });
  for_each_key(chunk, [&](const DedupeHash& hash) { dedupe_.prefetch_entry(hash); });
  chunk.retain([&](spool::RecordHeader& header, std::span<spool::FieldSpan> fields) {
    return admit_event(header, fields, now);
  });
}

// False for a duplicate.
bool Journal::admit_event(spool::RecordHeader& header, std::span<spool::FieldSpan> fields,
                          const spool::SpoolTime& now) {
  if (has_key(header)) {
    switch (dedupe_.insert(key_of(header), now.steady_ms)) {
      case DedupeWindow::Outcome::fresh:
        break;
      case DedupeWindow::Outcome::duplicate:
        add(counters_.duplicates, 1);
        return false;
      case DedupeWindow::Outcome::conflict:
        if ((header.flags & spool::kHasIdKey) == 0) break;  // two keys whose hashes share a half
        add(counters_.id_conflicts, 1);
        header.flags = static_cast<std::uint8_t>(header.flags & ~spool::kHasId);
        for (spool::FieldSpan& field : fields) {
          if (field.field == static_cast<std::uint32_t>(spool::Field::id_member)) {
            field.field = static_cast<std::uint32_t>(spool::Field::extra) & 0xff;
          }
        }
        break;
    }
  }
  if ((header.flags & spool::kHasId) == 0) header.id = ids_.next(now.unix_us);
  return true;
}

}  // namespace sluice::ingest
