// Delivers events that were set aside: reads their records, makes the rows again, and inserts them
// together with the proof that it was done.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "sink/backoff.hpp"
#include "sink/redelivery_database.hpp"
#include "sink/redelivery_reporter.hpp"
#include "sink/route.hpp"
#include "sink/route_brakes.hpp"
#include "sink/route_tables.hpp"
#include "spool/aside.hpp"
#include "spool/byte_budget.hpp"
#include "spool/chunk.hpp"

namespace sluice::sink {

struct RedeliveryOptions {
  std::size_t batch_rows_max = 200;
  std::uint64_t batch_bytes_max = 1024 * 1024;  // of records, but for the last one
  std::chrono::milliseconds parent_wait{30'000};
  std::chrono::milliseconds connect_timeout{5'000};
  std::chrono::milliseconds query_timeout{15'000};
  std::chrono::milliseconds copy_timeout{30'000};
  std::chrono::milliseconds commit_timeout{60'000};
  // Between two rounds: while something waits; how long at most while something is held.
  std::chrono::milliseconds round_interval{1'000};
  std::chrono::milliseconds held_interval_max{30'000};
  BackoffOptions retry{};
  std::uint64_t seed = 0;
  // The lanes'.
  std::shared_ptr<RouteBrakes> brakes = std::make_shared<RouteBrakes>();
  // The wall clock, in microseconds since the Unix epoch.
  std::function<std::int64_t()> unix_now_us = [] { return std::int64_t{0}; };
};

// Appends the event of a record's line to the chunk, with the identity that the record says. False:
// the line makes no event.
using MakeEvent = std::function<bool(const spool::AsideText& record, spool::Chunk& chunk)>;

// Works in rounds: connects, looks at the tables as they are now, compares what the database has of
// `sluice.redelivered` with what it must have, tries what is to be tried, and disconnects. So it
// holds no connection while there is nothing to do, and a table that was mended is found by the
// next round.
//
// Rows, and the events' positions in `sluice.redelivered`, change in one transaction: its primary
// key makes a second try, by whomever and whenever, find the first. What became of a transaction
// whose outcome is unknown is asked like everything else, by looking there before the next try.
//
// A row that is refused for itself is found by halving, and so is one whose key is taken: it is
// merged as a lane merges it. A waiting record (its parent was missing) is tried again for
// parent_wait and is dead then; a held one is tried as soon as its route's table fits, and is dead,
// or waits, if the row is refused. When the table refuses a thousand in a row those that are held
// stay it.
//
// Thread: the sink's.
class Redelivery final {
 public:
  using Clock = std::chrono::steady_clock;

  // REQUIRES: one route at least; all outlive it.
  Redelivery(RedeliveryOptions options, std::vector<Route> routes, spool::AsideQueue& queue,
             MakeEvent make_event, RedeliveryDatabase& database, RedeliveryReporter& reporter);
  Redelivery(const Redelivery&) = delete;
  Redelivery& operator=(const Redelivery&) = delete;

  struct Wait {
    IoWait io;
    std::optional<Clock::time_point> until;
  };
  // One bounded turn.
  [[nodiscard]] Wait turn(Clock::time_point now);

  // No further round is begun.
  void finish_soon() { finishing_soon_ = true; }
  // Rounds that came to their end, and those that failed on the way.
  [[nodiscard]] std::uint64_t rounds_done() const { return rounds_done_; }
  [[nodiscard]] std::uint64_t rounds_failed() const { return rounds_failed_; }

 private:
  enum class Phase {
    resting,  // disconnected, until next_round_
    connecting,
    describing,
    counting,
    listing,
    looking_up,
    opening,     // W1
    finishing,   // W2
    comparing,   // likewise
    committing,  // W3
    rolling_back,
  };
  struct Item {
    spool::AsideText text;
    spool::AsidePlace place;
    spool::Chunk event;
    RouteTable* table = nullptr;  // null: no route takes it
  };

  [[nodiscard]] Wait begin_round(Clock::time_point now);
  [[nodiscard]] std::optional<std::chrono::milliseconds> interval() const;
  void start(Phase phase, Clock::time_point now, std::chrono::milliseconds timeout);
  [[nodiscard]] Wait drive_step(Clock::time_point now);
  void step_done(Clock::time_point now);
  void step_failed(const Failure& failure, Clock::time_point now);

  void start_check(Clock::time_point now);
  void counted(Clock::time_point now);
  void list_next(Clock::time_point now);
  void listed(Clock::time_point now);

  void load(Clock::time_point now);
  [[nodiscard]] std::optional<Item> read(const spool::AsideTry& next);
  void looked_up(Clock::time_point now);
  void try_next(Clock::time_point now);
  [[nodiscard]] bool fill_batch(RouteTable& table);
  void copied(Clock::time_point now);
  void not_all_added(Clock::time_point now);
  void compared(Clock::time_point now);
  [[nodiscard]] bool is_duplicate(const MergeConflict& conflict) const;
  void start_commit(Clock::time_point now);
  void committed();
  void row_refused(const Failure& failure);
  void refused(const Item& item, const Failure& failure);
  void change(const Item& item, spool::AsideState state, const Failure& failure);
  void close_table(RouteTable& table, const Failure& failure);
  void leave_to_closed_table(const Item& item);
  void roll_back(Clock::time_point now);

  void end_round(Clock::time_point now);
  void fail_round(const Failure& failure, Clock::time_point now);
  [[nodiscard]] AsideClaim claim_of(const Item& item) const;
  [[nodiscard]] bool has_waited(const Item& item) const;
  [[nodiscard]] std::string_view step_name() const;

  const RedeliveryOptions options_;
  spool::AsideQueue& queue_;
  const MakeEvent make_event_;
  RedeliveryDatabase& database_;
  RedeliveryReporter& reporter_;
  RouteTables tables_;
  Backoff backoff_;
  spool::ByteBudget budget_;  // of the window's events; bounds nothing, as the window does

  Phase phase_ = Phase::resting;
  Clock::time_point deadline_{};
  Clock::time_point next_round_{};  // not before then
  Clock::time_point ended_{};       // the last round, if it did not fail
  std::chrono::milliseconds held_interval_;
  bool finishing_soon_ = false;
  std::uint64_t rounds_done_ = 0;
  std::uint64_t rounds_failed_ = 0;

  Clock::time_point next_check_{};
  std::size_t check_turn_ = 0;
  std::vector<spool::RedeliveredCount> expected_;  // what is compared
  std::vector<spool::Uuid> differing_;             // segments to be listed

  // Where the next window begins. It stays from round to round, so that each record gets its turn.
  spool::AsidePlace cursor_;
  std::vector<Item> window_;  // tables that others refer to first
  std::size_t at_ = 0;        // of the window: what is before it is settled
  std::size_t batch_end_ = 0;
  std::vector<AsideClaim> claims_;  // of the batch
  std::size_t limit_;               // of rows: halved by a refused row, grows back
  std::size_t fruitless_windows_ = 0;
  bool delivered_any_ = false;  // in this round
  std::vector<RouteTable*> told_closed_;
};

}  // namespace sluice::sink
