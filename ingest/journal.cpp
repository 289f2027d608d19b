#include "ingest/journal.hpp"

#include <algorithm>
#include <cstdlib>
#include <iterator>
#include <utility>

namespace sluice::ingest {
namespace {

// What one block takes, duplicates included: a group commit of 256 KiB. Quiet connections' chunks
// are small, so their number is bounded too.
constexpr std::size_t kTakenBytesMax = 256 * 1024;
constexpr std::size_t kTakenChunksMax = 1024;

constexpr std::int64_t kTendMs = 1'000;

// A spool in memory has no room for a moment whenever events come faster than they are committed;
// after this long, which no healthy commit takes, it is full. (A disk that refuses a block is full
// at once.)
constexpr std::int64_t kNoRoomMs = 1'000;

bool is_patient(const Origin& origin) {
  return origin.on_full == OnFull::wait;
}

// Whether a chunk before it of the same connection was, and it must not go ahead of that.
bool has_to_be_turned_away(const Origin& origin) {
  return origin.producer && origin.ledger && origin.ledger->has_turned_away();
}

// The lines of the chunk's events.
std::vector<AckLedger::Lines> lines_of(const spool::Chunk& chunk, const Origin& origin) {
  std::vector<AckLedger::Lines> lines;
  if (!origin.ledger) return lines;
  const auto bytes = chunk.bytes();
  for (std::size_t at = 0; at < bytes.size();) {
    const spool::RecordHeader& header = spool::EventView(bytes.data() + at).header();
    const std::uint64_t line = origin.first_line + line_delta(header);
    if (!lines.empty() && lines.back().last + 1 == line) {
      lines.back().last = line;
    } else {
      lines.push_back({line, line});
    }
    at += header.record_bytes;
  }
  return lines;
}

}  // namespace

Journal::Journal(JournalOptions options, const JournalStages& stages)
    : options_(options),
      stages_(stages),
      admission_(stages.dedupe, stages.ids, stages.producers, stages.counters) {}

Journal::Turn Journal::turn(const spool::SpoolTime& now) {
  if (now.steady_ms - tended_ms_ >= kTendMs) tend(now);
  const auto lane = stages_.spool.lane_with_room(now);
  if (!lane) return no_room(now);
  if (block_.shares.empty()) {
    has_room();
    gather(now);
    if (gathered_.empty()) {
      stages_.dedupe.expire(now.steady_ms);
      tend(now);
      publish(now);
      return {Result::queue_empty};
    }
    if (!is_closed(now)) {
      return {Result::gathering, gathering_since_ms_ + options_.sync_delay.count()};
    }
    admit_gathered(now);
  }
  const Turn turn = append(*lane, now);
  publish(now);
  return turn;
}

void Journal::tend(const spool::SpoolTime& now) {
  stages_.spool.tend(now);
  tended_ms_ = now.steady_ms;
}

void Journal::gather(const spool::SpoolTime& now) {
  if (gathered_.empty()) {
    gathered_bytes_ = 0;
    producer_waits_ = false;
    gathering_since_ms_ = now.steady_ms;
  }
  Taken taken;
  while (gathered_bytes_ < kTakenBytesMax && gathered_.size() < kTakenChunksMax &&
         stages_.queue.pop(taken.chunk, taken.origin)) {
    gathered_bytes_ += taken.chunk.bytes().size();
    producer_waits_ = producer_waits_ || taken.origin.ledger;
    gathered_.push_back(std::exchange(taken, {}));
  }
}

bool Journal::is_closed(const spool::SpoolTime& now) const {
  return producer_waits_ || finishing_soon_ || gathered_bytes_ >= kTakenBytesMax ||
         gathered_.size() >= kTakenChunksMax ||
         now.steady_ms - gathering_since_ms_ >= options_.sync_delay.count();
}

// Those that do not wait come last: so they can leave the block again with all that they are the
// originals of. A connection's chunks are all of one kind, so that its order stays.
void Journal::admit_gathered(const spool::SpoolTime& now) {
  const auto impatient =
      std::stable_partition(gathered_.begin(), gathered_.end(),
                            [](const Taken& taken) { return is_patient(taken.origin); });
  for (auto taken = gathered_.begin(); taken != impatient; ++taken) admit(std::move(*taken), now);
  block_.patient_chunks = block_.chunks.size();
  block_.patient_shares = block_.shares.size();
  if (impatient != gathered_.end()) block_.patient = admission_.mark();
  for (auto taken = impatient; taken != gathered_.end(); ++taken) {
    if (has_to_be_turned_away(taken->origin)) {
      turn_away(*taken);
    } else {
      admit(std::move(*taken), now);
    }
  }
  gathered_.clear();
}

void Journal::admit(Taken taken, const spool::SpoolTime& now) {
  Share share;
  if (!is_patient(taken.origin)) share.lines = lines_of(taken.chunk, taken.origin);
  share.duplicates = admission_.admit(taken.chunk, taken.origin, now);
  share.stored = taken.chunk.count();
  if (taken.origin.ledger && taken.origin.ledger->stage() == AckStage::committed) {
    share.stored_lines = lines_of(taken.chunk, taken.origin);
  }
  share.origin = std::move(taken.origin);
  block_.shares.push_back(std::move(share));
  if (!taken.chunk.empty()) block_.chunks.push_back(std::move(taken.chunk));
}

Journal::Turn Journal::append(spool::LaneIndex lane, const spool::SpoolTime& now) {
  const auto marks = admission_.marks();
  std::optional<BlockEnd> end;
  if (!block_.chunks.empty() || !marks.empty()) {
    const bool has_events = !block_.chunks.empty();
    stages_.commits.appending(lane);
    const auto position = stages_.spool.append(lane, block_.chunks, marks, now);
    if (!position || !has_events) stages_.commits.not_appended(lane);
    if (!position) return refused();
    has_room();
    if (has_events) end = BlockEnd{lane, *position};
  }
  settle(end);
  return {Result::worked};
}

// The block is durable, or there was nothing of it to store.
void Journal::settle(const std::optional<BlockEnd>& end) {
  admission_.settle();
  if (end) remember(*end);
  std::uint64_t stored = 0;
  std::uint64_t duplicates = 0;
  for (const Share& share : block_.shares) {
    stored += share.stored;
    duplicates += share.duplicates;
  }
  add(stages_.counters.events_journaled, stored);
  add(stages_.counters.duplicates, duplicates);
  std::uint64_t first = end ? end->position.index - stored : 0;
  for (Share& share : block_.shares) {
    const Origin& origin = share.origin;
    if (origin.ledger) {
      origin.ledger->durable(origin.ticket, share.stored, share.duplicates);
      if (origin.ledger->stage() == AckStage::committed) watch(share, end, first);
    }
    first += share.stored;
  }
  block_.chunks.clear();
  block_.shares.clear();
}

void Journal::watch(Share& share, const std::optional<BlockEnd>& end, std::uint64_t first) {
  std::span<const BlockEnd> ends = ends_;
  if (share.duplicates == 0 && end) ends = {&*end, 1};
  ChunkRows rows;
  if (end) rows = {end->lane, {end->position.segment, first}, std::move(share.stored_lines)};
  stages_.commits.watch(ends, share.origin.ledger, share.origin.ticket, std::move(rows));
}

void Journal::remember(const BlockEnd& end) {
  stages_.commits.appended(end);
  const auto known = std::find_if(ends_.begin(), ends_.end(),
                                  [&](const BlockEnd& other) { return other.lane == end.lane; });
  if (known == ends_.end()) {
    ends_.push_back(end);
  } else {
    known->position = end.position;
  }
}

void Journal::has_room() {
  no_room_since_ms_.reset();
  full_.store(false, std::memory_order_relaxed);
}

Journal::Turn Journal::no_room(const spool::SpoolTime& now) {
  if (!no_room_since_ms_) no_room_since_ms_ = now.steady_ms;
  if (now.steady_ms - *no_room_since_ms_ >= kNoRoomMs) full_.store(true, std::memory_order_relaxed);
  return is_full() ? turn_away_waiting() : Turn{Result::spool_full};
}

// The keys go first: a line that is sent again because of the nack must be new.
Journal::Turn Journal::refused() {
  full_.store(true, std::memory_order_relaxed);
  if (block_.shares.size() > block_.patient_shares) {
    admission_.rewind(block_.patient);
    for (std::size_t i = block_.patient_shares; i < block_.shares.size(); ++i) {
      const Share& share = block_.shares[i];
      turn_away(share.origin, share.lines, share.stored + share.duplicates);
    }
    block_.shares.resize(block_.patient_shares);
    block_.chunks.resize(block_.patient_chunks);
    // Nothing but duplicates are left: they need no room.
    if (block_.chunks.empty() && admission_.marks().empty()) settle({});
  }
  return turn_away_waiting();
}

Journal::Turn Journal::turn_away_waiting() {
  const auto impatient =
      std::stable_partition(gathered_.begin(), gathered_.end(),
                            [](const Taken& taken) { return is_patient(taken.origin); });
  for (auto taken = impatient; taken != gathered_.end(); ++taken) turn_away(*taken);
  gathered_.erase(impatient, gathered_.end());
  Taken taken;
  for (std::size_t i = 0; i < kTakenChunksMax; ++i) {
    if (!stages_.queue.pop_impatient(taken.chunk, taken.origin)) return {Result::spool_full};
    turn_away(taken);
  }
  return {Result::worked};
}

void Journal::turn_away(const Taken& taken) {
  turn_away(taken.origin, lines_of(taken.chunk, taken.origin), taken.chunk.count());
}

void Journal::turn_away(const Origin& origin, std::span<const AckLedger::Lines> lines,
                        std::uint64_t events) {
  switch (origin.on_full) {
    case OnFull::wait:
      std::abort();  // never
    case OnFull::reject:
      add(stages_.counters.refused[static_cast<std::size_t>(Refusal::full)], events);
      add(stages_.counters.events_turned_away, events);
      break;
    case OnFull::drop:
      add(stages_.counters.events_dropped, events);
      break;
  }
  if (origin.ledger) origin.ledger->turned_away(origin.ticket, lines, Refusal::full);
}

void Journal::publish(const spool::SpoolTime& now) {
  stages_.counters.dedupe_keys.store(stages_.dedupe.keys(), std::memory_order_relaxed);
  stages_.counters.dedupe_window_ms.store(
      static_cast<std::uint64_t>(stages_.dedupe.effective_window_ms(now.steady_ms)),
      std::memory_order_relaxed);
}

}  // namespace sluice::ingest
