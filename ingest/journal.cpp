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
  const auto lane = stages_.spool.lane_with_room(now);
  if (!lane) return {Result::spool_full};

  std::vector<spool::Chunk> chunks;
  std::vector<Share> shares;
  std::size_t taken_bytes = 0;
  std::uint64_t events = 0;
  spool::Chunk chunk;
  Origin origin;
  while (taken_bytes < kTakenBytesMax && shares.size() < kTakenChunksMax &&
         stages_.queue.pop(chunk, origin)) {
    taken_bytes += chunk.bytes().size();
    const std::uint64_t duplicates = admit(chunk, now);
    shares.push_back({std::move(origin), chunk.count(), duplicates});
    if (chunk.empty()) continue;
    events += chunk.count();
    chunks.push_back(std::move(chunk));
  }
  if (shares.empty()) {
    stages_.dedupe.expire(now.steady_ms);
    stages_.spool.tend(now);
  }
  stages_.counters.dedupe_keys.store(stages_.dedupe.keys(), std::memory_order_relaxed);
  stages_.counters.dedupe_window_ms.store(
      static_cast<std::uint64_t>(stages_.dedupe.effective_window_ms(now.steady_ms)),
      std::memory_order_relaxed);
  if (shares.empty()) return {Result::queue_empty};
  BlockEnd end{*lane, {}};
  if (!chunks.empty()) {
    const auto position = stages_.spool.append(*lane, chunks, {}, now);
    if (!position) std::abort();  // only a disk says no
    end.position = *position;
    add(stages_.counters.events_journaled, events);
  }
  for (const Share& share : shares) settle(share, end);
  return {Result::worked};
}

void Journal::settle(const Share& share, const BlockEnd& end) {
  const Origin& origin = share.origin;
  if (!origin.ledger) return;
  origin.ledger->durable(origin.ticket, share.stored, share.duplicates);
  if (origin.ledger->stage() != AckStage::committed) return;
  const std::span<const BlockEnd> ends{&end, share.stored == 0 ? 0u : 1u};
  stages_.commits.watch(ends, origin.ledger, origin.ticket);
}

// The window's table is far larger than the cache: asked for one by one, each key would wait for
// its bucket and then for the entry that it leads to. Two passes ahead fetch both for all of a
// chunk.
std::uint64_t Journal::admit(spool::Chunk& chunk, const spool::SpoolTime& now) {
  const std::uint64_t offered = chunk.count();
  for_each_key(chunk, [&](const DedupeHash& hash) { stages_.dedupe.prefetch_bucket(hash); });
  for_each_key(chunk, [&](const DedupeHash& hash) { stages_.dedupe.prefetch_entry(hash); });
  chunk.retain([&](spool::RecordHeader& header, std::span<spool::FieldSpan> fields) {
    return admit_event(header, fields, now);
  });
  return offered - chunk.count();
}

// False for a duplicate.
bool Journal::admit_event(spool::RecordHeader& header, std::span<spool::FieldSpan> fields,
                          const spool::SpoolTime& now) {
  if (has_key(header)) {
    switch (stages_.dedupe.insert(key_of(header), now.steady_ms)) {
      case DedupeWindow::Outcome::fresh:
        break;
      case DedupeWindow::Outcome::duplicate:
        add(stages_.counters.duplicates, 1);
        return false;
      case DedupeWindow::Outcome::conflict:
        if ((header.flags & spool::kHasIdKey) == 0) break;  // two keys whose hashes share a half
        add(stages_.counters.id_conflicts, 1);
        header.flags = static_cast<std::uint8_t>(header.flags & ~spool::kHasId);
        for (spool::FieldSpan& field : fields) {
          if (field.field == static_cast<std::uint32_t>(spool::Field::id_member)) {
            field.field = static_cast<std::uint32_t>(spool::Field::extra) & 0xff;
          }
        }
        break;
    }
  }
  if ((header.flags & spool::kHasId) == 0) header.id = stages_.ids.next(now.unix_us);
  return true;
}

}  // namespace sluice::ingest
