// The one place where events get their order, their id and their segment: takes chunks from the
// queue, drops duplicates, and appends blocks to the spool.
#pragma once

#include <cstdint>
#include <vector>

#include "ingest/dedupe_window.hpp"
#include "ingest/event_queue.hpp"
#include "ingest/id_generator.hpp"
#include "ingest/ingest_counters.hpp"
#include "spool/spool.hpp"

namespace sluice::ingest {

// Thread: the journal's.
class Journal final {
 public:
  // REQUIRES: all outlive the journal.
  Journal(EventQueue& queue, DedupeWindow& dedupe, IdGenerator& ids, spool::SpoolWriter& spool,
          IngestCounters& counters)
      : queue_(queue), dedupe_(dedupe), ids_(ids), spool_(spool), counters_(counters) {}
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  enum class Turn {
    worked,  // appended a block, or dropped duplicates: there may be more
    queue_empty,
    spool_full,  // no lane has room: nothing was taken from the queue
  };
  // One bounded turn: at most one block.
  [[nodiscard]] Turn turn(const spool::SpoolTime& now);

 private:
  void admit(spool::Chunk& chunk, const spool::SpoolTime& now);
  [[nodiscard]] bool admit_event(spool::RecordHeader& header, std::span<spool::FieldSpan> fields,
                                 const spool::SpoolTime& now);

  EventQueue& queue_;
  DedupeWindow& dedupe_;
  IdGenerator& ids_;
  spool::SpoolWriter& spool_;
  IngestCounters& counters_;
};

}  // namespace sluice::ingest
