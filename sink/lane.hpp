// One Postgres connection and the segments it drains: reads blocks, sends them as COPY, and moves
// the watermark, over and over, through every failure.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sink/backoff.hpp"
#include "sink/breaker.hpp"
#include "sink/copy_encoder.hpp"
#include "sink/database.hpp"
#include "sink/lane_reporter.hpp"
#include "sink/route.hpp"
#include "spool/spool.hpp"

namespace sluice::sink {

using Clock = std::chrono::steady_clock;

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
};

// A batch is a run of consecutive events of one segment, streamed into an open COPY as they come.
// It is committed when it has batch_rows_max rows or batch_bytes_max bytes, or a delay after its
// first event: batch_delay, or twice what a commit takes if that is more, so that commits never
// take more than a third of the time. Under load it depends on who is in it: a batch of nothing but
// bulk, large chunks of connections that flood, goes on for a second delay while there is more, as
// larger batches cost the server less; one that also holds a chunk of a quiet connection ends a
// quarter of the delay after that, so that a quiet event does not wait for the bulk around it.
//
// Nothing is known about a batch but what the watermark says. After any failure the connection is
// dropped and the watermark is read under its row lock (R) before another row is sent.
//
// Thread: the sink's.
class Lane final {
 public:
  // REQUIRES: all outlive the lane.
  Lane(LaneOptions options, Route route, spool::SpoolReader& reader, Database& database,
       Breaker& breaker, LaneReporter& reporter);
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
    copying,
    finishing,   // W2
    committing,  // W3
  };
  // The batch under way: [from, next) of segment_, to be moved from watermark_.
  struct Batch {
    std::uint64_t rows = 0;
    std::uint64_t bytes = 0;
    Clock::time_point began;
    std::chrono::milliseconds delay{};  // batch_delay, or more where commits are slow
    Clock::time_point closes_at;
    Clock::time_point commit_began;
    std::chrono::microseconds copy_time{};
    std::vector<CommittedGroup> groups;
    bool must_close = false;
    bool has_bulk = false;
    bool has_quiet = false;
  };

  [[nodiscard]] Wait start_connecting(Clock::time_point now);
  [[nodiscard]] Wait drive_step(Clock::time_point now);
  [[nodiscard]] Wait step_done(Clock::time_point now);
  [[nodiscard]] Wait find_work(Clock::time_point now);
  [[nodiscard]] Wait copy_rows(Clock::time_point now);
  [[nodiscard]] Wait rest();

  void start(Phase phase, Clock::time_point now, std::chrono::milliseconds timeout);
  void make_encoder(Clock::time_point now);
  void resolved();
  void open_batch(Clock::time_point now);
  [[nodiscard]] bool fill_buffer(Clock::time_point now);
  void encode_row(const spool::EventView& event);
  void note_chunk(std::size_t chunk_bytes, Clock::time_point now);
  [[nodiscard]] Clock::time_point closing_time(bool more_to_read) const;
  void close_batch(Clock::time_point now);
  void committed(Clock::time_point now);
  void fail(const Failure& failure, Clock::time_point now);
  void hold(const Failure& failure, Clock::time_point now);
  void leave_until(Clock::time_point retry_at, LaneState state);
  void got_through();
  void set_state(LaneState state);
  [[nodiscard]] std::string_view step_name() const;
  [[nodiscard]] std::uint64_t rows_limit() const;

  const LaneOptions options_;
  const Route route_;
  spool::SpoolReader& reader_;
  Database& database_;
  Breaker& breaker_;
  LaneReporter& reporter_;
  Backoff retry_backoff_;
  Backoff hold_backoff_;
  std::optional<CopyEncoder> encoder_;  // of the table as the catalog had it at the last connect

  Phase phase_ = Phase::disconnected;
  std::optional<LaneState> state_;  // as last reported
  Clock::time_point retry_at_{};
  // After a lost connection: breaker_'s times_through() then, and when a try is allowed again if
  // another lane gets through. It cuts retry_at_ short.
  std::optional<std::uint64_t> seen_through_;
  Clock::time_point retry_soonest_at_{};
  Clock::time_point deadline_{};   // of the step under way
  bool trouble_reported_ = false;  // since the last success
  bool finishing_soon_ = false;
  std::uint64_t rows_max_now_;  // halved by 57014, grows back

  // watermark_ is what the database has for segment_; committed_ is how far we know it to be
  // committed: more than watermark_ only after a failover lost commits whose events are gone.
  std::optional<spool::Uuid> segment_;
  bool segment_resolved_ = false;
  std::uint64_t watermark_ = 0;
  std::uint64_t committed_ = 0;
  std::uint64_t next_ = 0;              // the next event to encode; committed_ <= next_
  std::uint64_t commit_sent_upto_ = 0;  // of all W3 of segment_: above committed_ R must tell
  spool::BlockCursor cursor_;
  Batch batch_;
  CopyBuffer buffer_;                        // encoded rows that were not handed over yet
  std::chrono::microseconds commit_cost_{};  // of W3, smoothed
};

}  // namespace sluice::sink
