// What has become of the lines of one connection that asked for acks: how far they are done with,
// and what the producer has to be told.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ingest/refusal.hpp"

namespace sluice::ingest {

enum class AckStage {
  durable,    // a line is done with when its block is durable
  committed,  // when its row is committed
};

// The connection hands chunks of its lines to the queue, each with a ticket; journal and sink
// settle the tickets. Lines are counted from 1, after the hello.
//
// Lives until the connection and every chunk of it have gone (shared_ptr).
// Threads: any; `on_progress` is called on the thread that made the progress, with no lock held,
// and not again before take_progress().
class AckLedger final {
 public:
  using Ticket = std::uint64_t;

  // Lines of the connection, both ends included.
  struct Lines {
    std::uint64_t first;
    std::uint64_t last;

    bool operator==(const Lines&) const = default;
  };

  AckLedger(AckStage stage, std::function<void()> on_progress);
  AckLedger(const AckLedger&) = delete;
  AckLedger& operator=(const AckLedger&) = delete;

  [[nodiscard]] AckStage stage() const { return stage_; }

  // The connection's side. Thread: the ingest thread's.

  // A chunk whose last line is this one goes into the queue now.
  [[nodiscard]] Ticket push(std::uint64_t last_line);
  // Every line up to this one was refused, was empty, or is in a chunk that was pushed.
  void handled(std::uint64_t line);
  // Chunks pushed and not yet done with, and those behind them: none of their lines is acked.
  [[nodiscard]] std::size_t outstanding() const;

  struct Nack {
    std::uint64_t first_line;  // all lines from here
    std::uint64_t last_line;   // to here were refused
    Refusal code;
  };
  // A line whose row Postgres refused for itself.
  struct RefusedRow {
    std::uint64_t line;
    std::string sqlstate;

    bool operator==(const RefusedRow&) const = default;
  };
  struct Progress {
    std::uint64_t acked = 0;   // the first so many lines are done with
    std::uint64_t stored = 0;  // less those whose rows were refused
    std::uint64_t duplicates = 0;
    std::vector<Nack> nacks;               // by turned_away(), since the last call
    std::vector<RefusedRow> refused_rows;  // since the last call
  };
  // What the producer can be told by now.
  [[nodiscard]] Progress take_progress();

  // The journal's side.

  // The chunk's events are durable, `duplicates` of its lines were not stored again. At the stage
  // `durable` this is the end of the ticket.
  void durable(Ticket ticket, std::uint64_t stored, std::uint64_t duplicates);
  // Nothing of the chunk was stored: these lines of it, in order, are refused. The end of the
  // ticket.
  void turned_away(Ticket ticket, std::span<const Lines> lines, Refusal code);
  // Whether turned_away() was ever called. Thread: any.
  [[nodiscard]] bool has_turned_away() const {
    return has_turned_away_.load(std::memory_order_relaxed);
  }

  // The sink's side.

  // The line's row was refused, its event is among those set aside.
  // REQUIRES: its ticket has not ended.
  void row_refused(std::uint64_t line, std::string_view sqlstate);
  // The chunk's rows are committed. The end of the ticket.
  // REQUIRES: durable() was called before, at the stage `committed`.
  void committed(Ticket ticket);

 private:
  struct Pushed {
    std::uint64_t last_line;
    bool done = false;
  };

  // Whether the acked lines became more.
  [[nodiscard]] bool finish_locked(Ticket ticket);
  void tell();

  const AckStage stage_;
  const std::function<void()> on_progress_;
  std::atomic<bool> told_{false};             // on_progress_ was called and take_progress() was not
  std::atomic<bool> has_turned_away_{false};  // publishes nothing but itself

  mutable std::mutex mutex_;
  std::deque<Pushed> pushed_;  // tickets [first_ticket_, first_ticket_ + size), the first not done
  Ticket first_ticket_ = 1;
  std::uint64_t acked_ = 0;         // never beyond the tickets before first_ticket_
  std::uint64_t handled_line_ = 0;  // acked as soon as no ticket is outstanding
  std::uint64_t stored_ = 0;
  std::uint64_t duplicates_ = 0;
  std::vector<Nack> nacks_;
  std::vector<RefusedRow> refused_rows_;
};

}  // namespace sluice::ingest
