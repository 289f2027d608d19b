// The one place where events get their order, their id and their segment: takes chunks from the
// queue, drops duplicates, appends blocks to the spool, and tells the connections what is durable.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

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

// Thread: the journal's.
class Journal final {
 public:
  Journal(JournalOptions options, const JournalStages& stages)
      : options_(options), stages_(stages) {}
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
  // One bounded turn: at most one block.
  [[nodiscard]] Turn turn(const spool::SpoolTime& now);

  // From now on blocks close at once.
  void finish_soon() { finishing_soon_ = true; }

 private:
  // A chunk of the block that is being made.
  struct Share {
    Origin origin;
    std::uint64_t stored = 0;
    std::uint64_t duplicates = 0;
  };

  [[nodiscard]] std::uint64_t admit(spool::Chunk& chunk, const spool::SpoolTime& now);
  [[nodiscard]] bool admit_event(spool::RecordHeader& header, std::span<spool::FieldSpan> fields,
                                 const spool::SpoolTime& now);
  void settle(const Share& share, const BlockEnd& end);

  const JournalOptions options_;
  const JournalStages stages_;
  bool finishing_soon_ = false;
};

}  // namespace sluice::ingest
