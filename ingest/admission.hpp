// Decides event by event what is new: drops duplicates, by their keys and by their producers' own
// numbers, and gives ids.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ingest/dedupe_window.hpp"
#include "ingest/id_generator.hpp"
#include "ingest/ingest_counters.hpp"
#include "ingest/origin.hpp"
#include "spool/chunk.hpp"
#include "spool/producer_table.hpp"
#include "spool/spool.hpp"

namespace sluice::ingest {

// Admits the chunks of one block after the other; what it remembers of the block's events is
// pending until settle() says that they are durable.
//
// Thread: the journal's.
class Admission final {
 public:
  // REQUIRES: all outlive it.
  Admission(DedupeWindow& dedupe, IdGenerator& ids, spool::ProducerTable& producers,
            IngestCounters& counters)
      : dedupe_(dedupe), ids_(ids), producers_(producers), counters_(counters) {}
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  // Takes duplicates of durable and of pending events out of the chunk; returns how many. The
  // others have an id then.
  [[nodiscard]] std::uint64_t admit(spool::Chunk& chunk, const Origin& origin,
                                    const spool::SpoolTime& now);

  // How far the pending block takes its named producers: to be stored with it.
  [[nodiscard]] std::vector<spool::ProducerMark> marks() const;

  // What is pending now. Chunks that are admitted afterwards can be given up again.
  struct Mark {
    DedupeWindow::Mark keys;
    std::vector<spool::ProducerMark> marks;
    std::uint64_t id_conflicts = 0;
  };
  [[nodiscard]] Mark mark() const { return {dedupe_.mark(), pending_marks_, id_conflicts_}; }
  // Forgets what was admitted since: sent again it is new.
  // REQUIRES: no settle() since the mark.
  void rewind(const Mark& mark);

  // The pending events and marks are durable.
  void settle();

 private:
  [[nodiscard]] bool is_new(spool::RecordHeader& header, std::span<spool::FieldSpan> fields,
                            const spool::SpoolTime& now);
  [[nodiscard]] std::uint64_t& pending_line(const spool::ProducerKey& producer);

  DedupeWindow& dedupe_;
  IdGenerator& ids_;
  spool::ProducerTable& producers_;
  IngestCounters& counters_;
  // Of each named producer of the block: what is durable or pending of it.
  std::vector<spool::ProducerMark> pending_marks_;
  std::uint64_t id_conflicts_ = 0;  // pending
};

}  // namespace sluice::ingest
