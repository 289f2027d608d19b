// What has become of the lines of one connection that asked for acks: how far they are done with,
// and what the producer has to be told.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
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
// Threads: any; `on_progress` is called on the thread that made it, with no lock held, and not
// again before take_progress().
class AckLedger final {
 public:
  using Ticket = std::uint64_t;

  AckLedger(AckStage stage, std::function<void()> on_progress);
  AckLedger(const AckLedger&) = delete;
  AckLedger& operator=(const AckLedger&) = delete;

  [[nodiscard]] AckStage stage() const { return stage_; }

  // The connection's side. Thread: the ingest thread's.

  // A chunk whose last line is this one goes into the queue now.
  [[nodiscard]] Ticket push(std::uint64_t last_line);
  // Every line up to this one was refused, was empty, or is in a chunk that was pushed.
  void handled(std::uint64_t line);
  // Chunks pushed and not yet done with.
  [[nodiscard]] std::size_t outstanding() const;

  struct Nack {
    std::uint64_t first_line;  // all lines from here
    std::uint64_t last_line;   // to here were refused
    Refusal code;
  };
  struct Progress {
    std::uint64_t acked = 0;  // the first so many lines are done with
    std::uint64_t stored = 0;
    std::uint64_t duplicates = 0;
    std::vector<Nack> nacks;  // by turned_away(), since the last call
  };
  // What the producer can be told by now.
  [[nodiscard]] Progress take_progress();

  // The journal's side.

  // The chunk's events are durable, `duplicates` of its lines were not stored again. At the stage
  // `durable` this is the end of the ticket.
  void durable(Ticket ticket, std::uint64_t stored, std::uint64_t duplicates);
  // Nothing of the chunk was stored: its lines from first_line to the ticket's last are refused.
  void turned_away(Ticket ticket, std::uint64_t first_line, Refusal code);

  // The sink's side: the chunk's rows are committed.
  void committed(Ticket ticket);

 private:
  struct Pushed {
    std::uint64_t last_line;
    bool done = false;
  };

  void finish_locked(Ticket ticket);
  void tell();

  const AckStage stage_;
  const std::function<void()> on_progress_;
  std::atomic<bool> told_{false};  // on_progress_ was called and take_progress() was not

  mutable std::mutex mutex_;
  std::deque<Pushed> pushed_;  // tickets [first_ticket_, first_ticket_ + size), the first not done
  Ticket first_ticket_ = 1;
  std::uint64_t done_line_ = 0;     // last line of the tickets before first_ticket_
  std::uint64_t handled_line_ = 0;  // acked when no ticket is outstanding
  std::uint64_t stored_ = 0;
  std::uint64_t duplicates_ = 0;
  std::vector<Nack> nacks_;
};

}  // namespace sluice::ingest
