// The one place where events get their order, their id and their segment: takes chunks from the
// queue, drops duplicates, appends blocks to the spool, and tells the connections what is durable.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "ingest/admission.hpp"
#include "ingest/commit_watch.hpp"
#include "ingest/dedupe_window.hpp"
#include "ingest/event_queue.hpp"
#include "ingest/id_generator.hpp"
#include "ingest/ingest_counters.hpp"
#include "spool/producer_table.hpp"
#include "spool/spool.hpp"

namespace sluice::ingest {

struct JournalOptions {
  // How long events of producers that do not wait for acks gather to a block. Zero: not at all. A
  // chunk whose producer waits for an ack closes the block at once.
  std::chrono::milliseconds sync_delay{0};
};

// What a journal works with. All outlive it.
struct JournalStages {
  EventQueue& queue;
  DedupeWindow& dedupe;
  IdGenerator& ids;
  spool::SpoolWriter& spool;
  spool::ProducerTable& producers;  // advanced here when a block is durable
  CommitWatch& commits;
  IngestCounters& counters;
};

// A block is made in three steps: chunks are gathered; they are admitted, which takes duplicates
// out; the block is appended. When the spool does not take it, the chunks of listeners that do not
// let producers wait leave it again, and the rest is tried again as it is: nothing else goes ahead
// of it, so that no connection's order is broken, and no line is acked before it.
//
// Once a chunk of a named producer's connection was turned away, its later chunks are too: were
// they stored, the number that is kept for the name would pass lines that are not.
//
// A chunk's duplicates are done with when its block is: their originals are in that block or in one
// before it. They are committed when every lane has committed what was appended to it so far, by
// this run or one before it.
//
// Thread: the journal's, but for is_full().
class Journal final {
 public:
  Journal(JournalOptions options, const JournalStages& stages);
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  enum class Result {
    worked,       // appended a block, or dropped duplicates: there may be more
    gathering,    // a block is open until `until_ms`
    queue_empty,  // nothing to do
    spool_full,   // no lane has room, or the disk took nothing: again on_room, or in a second
  };
  struct Turn {
    Result result = Result::queue_empty;
    std::int64_t until_ms = 0;  // of gathering, by the steady clock
  };
  // One bounded turn: at most one block. At least one each second.
  [[nodiscard]] Turn turn(const spool::SpoolTime& now);

  // The lane holds events of earlier runs up to here. REQUIRES: no turn yet.
  void restore(const BlockEnd& recovered) { remember(recovered); }

  // From now on blocks close at once.
  void finish_soon() { finishing_soon_ = true; }

  // The disk refused a block, or no lane has had room for a while: chunks whose producers do not
  // wait are turned away. Thread: any.
  [[nodiscard]] bool is_full() const { return full_.load(std::memory_order_relaxed); }

 private:
  struct Taken {
    spool::Chunk chunk;
    Origin origin;
  };
  // What a chunk of the block comes to.
  struct Share {
    Origin origin;
    std::uint64_t stored = 0;
    std::uint64_t duplicates = 0;
    // Of all its events if it may be turned away; of those that are stored if its producer waits
    // for their commit.
    std::vector<AckLedger::Lines> lines;
    std::vector<AckLedger::Lines> stored_lines;
  };
  // Admitted, and not yet durable.
  struct Block {
    std::vector<spool::Chunk> chunks;  // with those that wait first; none is empty
    std::vector<Share> shares;         // in the same order, also of chunks that came out empty
    std::size_t patient_chunks = 0;
    std::size_t patient_shares = 0;
    Admission::Mark patient;  // what the others leave behind when they are turned away
  };

  void tend(const spool::SpoolTime& now);
  void gather(const spool::SpoolTime& now);
  [[nodiscard]] bool is_closed(const spool::SpoolTime& now) const;
  void admit_gathered(const spool::SpoolTime& now);
  void admit(Taken taken, const spool::SpoolTime& now);
  [[nodiscard]] Turn append(spool::LaneIndex lane, const spool::SpoolTime& now);
  void settle(const std::optional<BlockEnd>& end);
  // `first`: the index of the share's first event in the block's segment.
  void watch(Share& share, const std::optional<BlockEnd>& end, std::uint64_t first);
  void remember(const BlockEnd& end);
  void has_room();
  [[nodiscard]] Turn no_room(const spool::SpoolTime& now);
  [[nodiscard]] Turn refused();
  void turn_away(const Origin& origin, std::span<const AckLedger::Lines> lines,
                 std::uint64_t events);
  void turn_away(const Taken& taken);
  [[nodiscard]] Turn turn_away_waiting();
  void publish(const spool::SpoolTime& now);

  const JournalOptions options_;
  const JournalStages stages_;
  Admission admission_;

  std::vector<Taken> gathered_;
  std::size_t gathered_bytes_ = 0;
  std::int64_t gathering_since_ms_ = 0;
  bool producer_waits_ = false;  // one of those gathered
  Block block_;                  // what the spool has refused; empty between turns otherwise
  std::vector<BlockEnd> ends_;   // of each lane's last block

  std::int64_t tended_ms_ = 0;
  std::optional<std::int64_t> no_room_since_ms_;
  std::atomic<bool> full_{false};  // publishes nothing but itself
  bool finishing_soon_ = false;
};

}  // namespace sluice::ingest
