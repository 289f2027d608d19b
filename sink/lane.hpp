// One Postgres connection and the segments it drains: reads blocks, sends them as COPY, and moves
// the watermark, over and over, through every failure.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sink/backoff.hpp"
#include "sink/batch.hpp"
#include "sink/breaker.hpp"
#include "sink/database.hpp"
#include "sink/kept_blocks.hpp"
#include "sink/lane_reporter.hpp"
#include "sink/piece_sizes.hpp"
#include "sink/refused_rows.hpp"
#include "sink/route.hpp"
#include "sink/route_brakes.hpp"
#include "sink/route_tables.hpp"
#include "sink/segment_progress.hpp"
#include "sink/watermark_check.hpp"
#include "spool/aside.hpp"
#include "spool/spool.hpp"

namespace sluice::sink {

struct LaneOptions {
  std::size_t index = 0;
  std::uint64_t batch_rows_max = 10'000;
  std::uint64_t batch_bytes_max = 4 * 1024 * 1024;  // of COPY data
  std::chrono::milliseconds batch_delay{20};
  std::chrono::milliseconds connect_timeout{5'000};
  std::chrono::milliseconds resolve_timeout{15'000};  // above the server's lock_timeout of 5 s
  std::chrono::milliseconds copy_timeout{30'000};     // without any progress
  std::chrono::milliseconds commit_timeout{60'000};
  BackoffOptions retry{};
  BackoffOptions hold{std::chrono::milliseconds(1'000), std::chrono::milliseconds(30'000)};
  std::uint64_t seed = 0;  // of the backoffs' jitter
  // The wall clock, in microseconds since the Unix epoch: it tells how old a segment is.
  std::function<std::int64_t()> unix_now_us = [] { return std::int64_t{0}; };
  // Where rows go that are refused for themselves. None: they hold the lane. Outlives the lane.
  spool::AsideWriter* aside = nullptr;
  // How long a row whose parent is missing (23503) is tried again, by who delivers set-aside
  // events; 0: it is dead at once.
  std::chrono::milliseconds parent_wait{0};
  // One for all lanes.
  std::shared_ptr<RouteBrakes> brakes = std::make_shared<RouteBrakes>();
};

// A batch is a run of consecutive events of one segment. They may lead to several tables: one COPY
// for each, in one transaction. The rows of one table are streamed into its open COPY as they come;
// those of the others are kept back and follow when the batch closes, tables that others refer to
// first. So the streamed table refers to no other: where the batch's first event leads to one that
// does, all rows are kept back.
//
// When it is committed: sink/batch.hpp.
//
// Nothing is known about a batch but what the watermark says. After any failure the connection is
// dropped and the watermark is read under its row lock (R) before another row is sent.
//
// What was committed can be lost again by a failover. So a segment is confirmed to the spool only
// by a write that committed with no warning, and the watermarks of what the spool still keeps are
// looked at after each connect and every 5 s: what the database has lost is delivered again.
//
// A batch that meets a key which is taken goes again by merging: what is there already is a
// duplicate, or set aside, as the route has it.
//
// A row that is refused for itself is found by sending the batch again in pieces below savepoints
// (sink/piece_sizes.hpp), until it is alone, and set aside: its record is durable before the
// watermark passes it. The connection stays, and what passed in the batch stays too. So are the
// rows of a route whose table does not fit, or refused a thousand in a row, where rows of others
// wait behind them; where none do, they wait in the spool.
//
// Thread: the sink's.
class Lane final {
 public:
  // REQUIRES: one route at least; all outlive the lane.
  Lane(LaneOptions options, std::vector<Route> routes, spool::SpoolReader& reader,
       Database& database, Breaker& breaker, LaneReporter& reporter);
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // What a lane waits for: I/O, the time, or its spool becoming readable.
  struct Wait {
    IoWait io;
    std::optional<Clock::time_point> until;
  };
  // One bounded turn.
  [[nodiscard]] Wait turn(Clock::time_point now);

  // From now on batches close as soon as there is nothing more to read.
  void finish_soon() { finishing_soon_ = true; }

 private:
  // Where the lane is in the protocol. In all but the first and `ready` a step of the database, or
  // the COPY, is under way.
  enum class Phase {
    disconnected,  // until retry_at_
    connecting,
    describing,
    resolving,  // R
    ready,      // connected; the watermark of segment_ is known, if there is a segment
    opening,    // W1
    copying,    // or keeping back rows, with no COPY open
    sending,    // rows that were kept back
    finishing,  // W2 of one table
    comparing,  // W2: what merging did not add, with what is in the table
    settling,   // W2 of a piece
    rolling_back,
    committing,  // W3
    confirming,
    checking,
  };
  // A piece whose rows are there. The step that begins the next one checks their deferred
  // constraints first: what it refuses is this piece.
  struct UncheckedPiece {
    Batch batch;       // as it was when the piece began, but for what says which rows it has
    PieceSizes sizes;  // from before it counted as passed
  };

  [[nodiscard]] Wait start_connecting(Clock::time_point now);
  [[nodiscard]] Wait drive_step(Clock::time_point now);
  [[nodiscard]] Wait step_done(Clock::time_point now);
  [[nodiscard]] Wait find_work(Clock::time_point now);
  [[nodiscard]] Wait copy_rows(Clock::time_point now);
  [[nodiscard]] Wait rest();

  void start(Phase phase, Clock::time_point now, std::chrono::milliseconds timeout);
  void fit_routes(Clock::time_point now);
  [[nodiscard]] bool start_check(Clock::time_point now);
  void checked();
  [[nodiscard]] bool take_segment(Clock::time_point now);
  void start_resolve(Clock::time_point now);
  void resolved(Clock::time_point now);
  [[nodiscard]] bool recall_refused(std::uint64_t upto, Clock::time_point now);
  void found_committed(std::uint64_t upto);
  void found_lost(std::uint64_t before, bool first);
  void forgotten();
  void end_segment(Clock::time_point now);
  void confirmed();
  void open_batch(const spool::BlockPtr& block, Clock::time_point now);
  void begin_piece(Clock::time_point now);
  [[nodiscard]] spool::ReadResult read(std::uint64_t index);
  [[nodiscard]] bool find_next_event();
  void piece_copied(Clock::time_point now);
  void next_piece(Clock::time_point now);
  [[nodiscard]] bool return_to_unchecked();
  [[nodiscard]] CopyPlace take_place(bool settles);
  void start_copy(RouteTable& table, bool settles, Clock::time_point now);
  [[nodiscard]] std::optional<Wait> wait_for_room(Clock::time_point now);
  [[nodiscard]] Wait send_kept_back(Clock::time_point now);
  void finish_copy(Clock::time_point now);
  void copy_finished(Clock::time_point now);
  void compared(Clock::time_point now);
  [[nodiscard]] bool is_duplicate(const MergeConflict& conflict, std::uint64_t index);
  void table_copied(std::uint64_t conflicts, Clock::time_point now);
  [[nodiscard]] bool set_conflict_aside(RouteTable& table, std::uint64_t index,
                                        Clock::time_point now);
  void copy_next(Clock::time_point now);
  void settle(Clock::time_point now);
  void start_commit(Clock::time_point now);
  void stand_on(const spool::BlockPtr& block);
  [[nodiscard]] bool has_part() const;
  [[nodiscard]] bool take_events(Clock::time_point now);
  void take_event(const spool::EventView& event);
  void count_row(const spool::EventView& event, std::size_t bytes);
  void hold_row(const spool::EventView& event, const Failure& reason);
  [[nodiscard]] bool others_go_on();
  [[nodiscard]] std::optional<std::uint64_t> find_ahead(
      const std::function<bool(const spool::EventView&)>& is_wanted);
  void row_unencodable(const spool::EventView& event, RouteTable* table, Failure reason);
  [[nodiscard]] bool brakes(RouteTable& table);
  void close_route(RouteTable& table, const Failure& reason);
  void hold_route(RouteTable& table, const Failure& reason, Clock::time_point now);
  void give_up_row(std::uint64_t index, const spool::EventView& event, Failure reason);
  [[nodiscard]] bool pass_refused(const spool::EventView& event);
  [[nodiscard]] bool record(RefusedRow& row, const spool::EventView& event);
  [[nodiscard]] spool::BlockCursor cursor_at(std::uint64_t index);
  void close_batch(Clock::time_point now);
  void committed(Clock::time_point now);
  void fail(const Failure& failure, Clock::time_point now);
  void row_refused(const Failure& failure, Clock::time_point now);
  void row_found(const Failure& failure, Clock::time_point now);
  [[nodiscard]] std::uint64_t suspected_row(const Failure& failure) const;
  void send_again(Clock::time_point now);
  void rolled_back();
  [[nodiscard]] bool merges_instead(const Failure& failure);
  [[nodiscard]] bool is_of_table() const;
  [[nodiscard]] bool in_rows() const;
  [[nodiscard]] bool goes_again(std::uint64_t index) const;
  void hold(const Failure& failure, Clock::time_point now);
  void leave_until(Clock::time_point retry_at, LaneState state);
  void got_through();
  void set_state(LaneState state);
  [[nodiscard]] std::string_view step_name() const;
  [[nodiscard]] std::uint64_t rows_limit() const;

  const LaneOptions options_;
  spool::SpoolReader& reader_;
  Database& database_;
  Breaker& breaker_;
  LaneReporter& reporter_;
  Backoff retry_backoff_;
  Backoff hold_backoff_;
  RouteTables tables_;

  Phase phase_ = Phase::disconnected;
  std::optional<LaneState> state_;  // as last reported
  Clock::time_point retry_at_{};
  // After a lost connection: breaker_'s times_through() then, and when a try is allowed again if
  // another lane gets through. It cuts retry_at_ short.
  std::optional<std::uint64_t> seen_through_;
  Clock::time_point retry_soonest_at_{};
  Clock::time_point deadline_{};  // of the step under way
  // While the table of a route does not fit: when the catalog is looked at again.
  std::optional<Clock::time_point> look_again_at_;
  bool passes_held_ = false;       // until then: its rows are set aside, as others wait behind them
  bool trouble_reported_ = false;  // since the last success
  bool finishing_soon_ = false;
  std::uint64_t rows_max_now_;  // halved by 57014, grows back

  std::optional<SegmentProgress> segment_;
  RefusedRows refused_;  // of segment_
  // The last that was quarantined: a spool that has no place for it offers it again.
  std::optional<spool::Uuid> forgotten_;
  // Events below these were committed once, and go again as a failover lost that.
  std::vector<spool::Position> go_again_;
  WatermarkCheck check_;
  PieceSizes piece_sizes_;
  spool::BlockCursor cursor_;
  KeptBlocks kept_;  // of segment_: those of the piece under way, or the one that cursor_ is in
  Batch batch_;
  Batch at_piece_;  // batch_ as it was when its piece began, if it is in pieces
  std::optional<UncheckedPiece> unchecked_;
  std::chrono::microseconds commit_cost_{};  // of W3, smoothed
};

}  // namespace sluice::sink
