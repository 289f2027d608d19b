#include "sink/lane.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "sink/sqlstate.hpp"

namespace sluice::sink {
namespace {

using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::milliseconds;

// Rows are handed over in pieces of this size: large enough that a send() costs little per row,
// small enough that a batch fills the server's pipe while the next piece is encoded.
constexpr std::size_t kPieceBytes = 64 * 1024;
constexpr int kPiecesPerTurn = 4;
// How often a lane looks whether the one that tries for all got through.
constexpr milliseconds kBreakerPoll{50};
constexpr std::uint64_t kProbeRowsMax = 100;
// A connection that floods fills chunks of 64 KiB and more; one of less was not kept waiting.
constexpr std::size_t kQuietChunkBytes = 16 * 1024;
constexpr milliseconds kBatchTimeMax{1'000};

}  // namespace

Lane::Lane(LaneOptions options, Route route, spool::SpoolReader& reader, Database& database,
           Breaker& breaker, LaneReporter& reporter)
    : options_(options),
      route_(std::move(route)),
      reader_(reader),
      database_(database),
      breaker_(breaker),
      reporter_(reporter),
      retry_backoff_(options.seed, options.retry),
      hold_backoff_(options.seed + 1, options.hold),
      rows_max_now_(options.batch_rows_max) {}

Lane::Wait Lane::turn(Clock::time_point now) {
  switch (phase_) {
    case Phase::disconnected:
      return start_connecting(now);
    case Phase::ready:
      return find_work(now);
    case Phase::copying:
      return copy_rows(now);
    case Phase::connecting:
    case Phase::describing:
    case Phase::resolving:
    case Phase::opening:
    case Phase::finishing:
    case Phase::committing:
      return drive_step(now);
  }
  std::abort();
}

Lane::Wait Lane::start_connecting(Clock::time_point now) {
  // Every lane gets a turn after any lane's, so none has to ask for one to see that another got
  // through.
  if (seen_through_ && *seen_through_ != breaker_.times_through()) {
    retry_at_ = std::min(retry_at_, retry_soonest_at_);
  }
  if (now < retry_at_) return {{}, retry_at_};
  if (!breaker_.may_try(options_.index)) return {{}, now + kBreakerPoll};
  if (!trouble_reported_) set_state(LaneState::connecting);
  start(Phase::connecting, now, options_.connect_timeout);
  database_.start_connect();
  return {database_.wait(), now};
}

void Lane::start(Phase phase, Clock::time_point now, milliseconds timeout) {
  phase_ = phase;
  deadline_ = now + timeout;
}

Lane::Wait Lane::drive_step(Clock::time_point now) {
  switch (database_.advance()) {
    case Progress::done:
      return step_done(now);
    case Progress::failed:
      fail(database_.failure(), now);
      return {{}, now};
    case Progress::working:
      break;
  }
  if (now >= deadline_) {
    fail({"", "no answer from the server in time", ""}, now);
    return {{}, now};
  }
  return {database_.wait(), deadline_};
}

Lane::Wait Lane::step_done(Clock::time_point now) {
  switch (phase_) {
    case Phase::connecting:
      start(Phase::describing, now, options_.connect_timeout);
      database_.start_describe();
      break;
    case Phase::describing:
      make_encoder(now);
      break;
    case Phase::resolving:
      resolved();
      break;
    case Phase::opening:
      phase_ = Phase::copying;
      break;
    case Phase::finishing:
      batch_.copy_time = duration_cast<microseconds>(now - batch_.began);
      if (database_.rows_copied() != batch_.rows) {
        hold({"", "the table took fewer rows than were sent: a BEFORE trigger drops rows", ""},
             now);
        break;
      }
      batch_.commit_began = now;
      commit_sent_upto_ = std::max(commit_sent_upto_, next_);
      start(Phase::committing, now, options_.commit_timeout);
      database_.start_commit(*segment_, watermark_, next_, batch_.rows);
      break;
    case Phase::committing:
      committed(now);
      break;
    case Phase::disconnected:
    case Phase::ready:
    case Phase::copying:
      std::abort();
  }
  return {database_.wait(), now};
}

// The columns of the route with the types that the table has today.
void Lane::make_encoder(Clock::time_point now) {
  const auto bound = bind_columns(route_, database_.columns());
  if (const auto* mismatch = std::get_if<Failure>(&bound)) return hold(*mismatch, now);
  encoder_.emplace(route_.columns, std::get<std::vector<ColumnType>>(bound));
  phase_ = Phase::ready;
}

// Connected and nothing under way: R for a segment that is not resolved, else the next batch.
Lane::Wait Lane::find_work(Clock::time_point now) {
  if (!database_.still_open()) {
    // Nothing was under way, so nothing failed: a new connection at once.
    leave_until(now, LaneState::connecting);
    return {{}, now};
  }
  if (!segment_) {
    if (const auto first = reader_.first_segment()) segment_ = first->id;
  }
  if (!segment_) return rest();
  if (!segment_resolved_) {
    start(Phase::resolving, now, options_.resolve_timeout);
    database_.start_resolve(*segment_);
    return {database_.wait(), now};
  }
  const spool::ReadResult found = reader_.read({*segment_, next_});
  if (const auto* block = std::get_if<spool::BlockPtr>(&found)) {
    cursor_ = spool::BlockCursor(*block, next_);
    open_batch(now);
    return {database_.wait(), now};
  }
  if (std::holds_alternative<spool::NothingYet>(found)) return rest();
  if (const auto* gone = std::get_if<spool::Gone>(&found)) {
    reporter_.commits_lost(options_.index, {*segment_, next_}, gone->first_index - next_, false);
    next_ = committed_ = gone->first_index;
    return {{}, now};
  }
  reader_.release({*segment_, next_});
  segment_.reset();
  segment_resolved_ = false;
  watermark_ = committed_ = next_ = commit_sent_upto_ = 0;
  return {{}, now};
}

// Nothing to send. Coming here from work or trouble tells that the server answers; a lane that
// looks again while it rests has not asked it.
Lane::Wait Lane::rest() {
  if (state_ != LaneState::idle) got_through();
  set_state(LaneState::idle);
  return {database_.wait(), std::nullopt};
}

void Lane::resolved() {
  const std::uint64_t upto = database_.resolved_upto();
  const std::uint64_t before = std::exchange(watermark_, upto);
  segment_resolved_ = true;
  phase_ = Phase::ready;
  if (upto > committed_) {
    // Not only for the R that follows an unknown outcome: a COMMIT may also arrive behind that R,
    // and then the next one's compare fails and the R after it sees this.
    if (commit_sent_upto_ > committed_) {
      reporter_.unknown_was_committed(options_.index,
                                      std::min(upto, commit_sent_upto_) - committed_);
    }
    reader_.release({*segment_, upto});
    committed_ = upto;
  } else if (upto < before) {
    const bool still_here =
        std::holds_alternative<spool::BlockPtr>(reader_.read({*segment_, upto}));
    reporter_.commits_lost(options_.index, {*segment_, upto}, before - upto, still_here);
    if (still_here) committed_ = upto;
  }
  next_ = committed_;
}

void Lane::open_batch(Clock::time_point now) {
  const milliseconds commit_share =
      std::min(kBatchTimeMax, duration_cast<milliseconds>(2 * commit_cost_));
  batch_.rows = 0;
  batch_.bytes = 0;
  batch_.began = now;
  batch_.delay = std::max(options_.batch_delay, commit_share);
  batch_.closes_at = now + batch_.delay;
  batch_.groups.clear();
  batch_.must_close = false;
  batch_.has_bulk = false;
  batch_.has_quiet = false;
  buffer_.clear();
  encoder_->append_header(buffer_);
  set_state(LaneState::sending);
  start(Phase::opening, now, options_.copy_timeout);
  std::vector<std::string> columns;
  for (const Column& column : route_.columns) columns.push_back(column.name);
  database_.start_copy(columns);
}

Lane::Wait Lane::copy_rows(Clock::time_point now) {
  for (int piece = 0; piece < kPiecesPerTurn; ++piece) {
    if (!database_.connected()) {
      fail(database_.failure(), now);
      return {{}, now};
    }
    if (!database_.ready_for_rows()) {
      if (now >= deadline_) {
        fail({"", "the server took no rows in time", ""}, now);
        return {{}, now};
      }
      return {database_.wait(), deadline_};
    }
    if (database_.interrupted()) {
      close_batch(now);
      return {database_.wait(), now};
    }
    deadline_ = now + options_.copy_timeout;
    const bool more_to_read = fill_buffer(now);
    if (batch_.must_close || (!more_to_read && finishing_soon_) ||
        now >= closing_time(more_to_read)) {
      close_batch(now);
      return {database_.wait(), now};
    }
    if (!more_to_read) {
      // The time that the lane itself waits is not the server's.
      deadline_ = batch_.closes_at + options_.copy_timeout;
      return {{database_.wait().fd, true, false}, batch_.closes_at};
    }
    database_.send_rows(buffer_.bytes());
    buffer_.clear();
  }
  return {database_.wait(), now};
}

// Encodes rows until a piece is full (then true), the batch has to close, or nothing more is there.
bool Lane::fill_buffer(Clock::time_point now) {
  while (!batch_.must_close && buffer_.size() < kPieceBytes) {
    if (cursor_.at_end()) {
      const spool::ReadResult found = reader_.read({*segment_, next_});
      const auto* block = std::get_if<spool::BlockPtr>(&found);
      if (block == nullptr) {
        // A sealed segment's end also ends the batch; an open one's may go on.
        batch_.must_close = !std::holds_alternative<spool::NothingYet>(found);
        return false;
      }
      cursor_ = spool::BlockCursor(*block, next_);
    }
    note_chunk(cursor_.chunk_bytes(), now);
    encode_row(cursor_.event());
  }
  return true;
}

void Lane::note_chunk(std::size_t chunk_bytes, Clock::time_point now) {
  bool& has_this = chunk_bytes < kQuietChunkBytes ? batch_.has_quiet : batch_.has_bulk;
  if (std::exchange(has_this, true)) return;
  if (batch_.has_bulk && batch_.has_quiet) {
    batch_.closes_at = std::min(batch_.closes_at, now + batch_.delay / 4);
  }
}

Clock::time_point Lane::closing_time(bool more_to_read) const {
  const bool only_bulk = batch_.has_bulk && !batch_.has_quiet;
  return only_bulk && more_to_read ? batch_.closes_at + batch_.delay : batch_.closes_at;
}

void Lane::encode_row(const spool::EventView& event) {
  const std::size_t before = buffer_.size();
  if (const auto refused = encoder_->append_row(event, buffer_)) {
    // The rows before it go first. Alone at a batch's start it is what the lane is held for.
    batch_.must_close = true;
    return;
  }
  batch_.bytes += buffer_.size() - before;
  ++batch_.rows;
  ++next_;
  cursor_.advance();
  const std::int64_t received_us = event.header().received_us;
  if (batch_.groups.empty() || batch_.groups.back().received_us != received_us) {
    batch_.groups.push_back({received_us, 0});
  }
  ++batch_.groups.back().events;
  batch_.must_close = batch_.rows >= rows_limit() || batch_.bytes >= options_.batch_bytes_max;
}

std::uint64_t Lane::rows_limit() const {
  return breaker_.is_probing(options_.index) ? std::min(kProbeRowsMax, rows_max_now_)
                                             : rows_max_now_;
}

void Lane::close_batch(Clock::time_point now) {
  if (batch_.rows == 0 && !database_.interrupted()) {
    // Only a row that cannot be encoded closes an empty batch.
    CopyBuffer row;
    if (const auto refused = encoder_->append_row(cursor_.event(), row)) {
      return hold({refused->sqlstate, "a row cannot be written", refused->column}, now);
    }
  }
  encoder_->append_trailer(buffer_);
  database_.send_rows(buffer_.bytes());
  buffer_.clear();
  start(Phase::finishing, now, options_.copy_timeout);
  database_.start_finish_copy();
}

void Lane::committed(Clock::time_point now) {
  const auto commit_time = duration_cast<microseconds>(now - batch_.commit_began);
  commit_cost_ = (commit_cost_ * 7 + commit_time) / 8;
  watermark_ = committed_ = next_;
  phase_ = Phase::ready;
  rows_max_now_ = std::min(options_.batch_rows_max, rows_max_now_ * 2);
  got_through();
  reporter_.batch_committed(
      options_.index, {batch_.rows, batch_.bytes, batch_.copy_time, commit_time, batch_.groups});
  // The cursor would keep the last block's memory.
  if (cursor_.at_end()) cursor_ = {};
  reader_.release({*segment_, committed_});
}

void Lane::got_through() {
  retry_backoff_.reset();
  hold_backoff_.reset();
  breaker_.reset();
  if (std::exchange(trouble_reported_, false)) reporter_.recovered(options_.index);
}

void Lane::fail(const Failure& failure, Clock::time_point now) {
  const Action action = phase_ == Phase::committing ? Action::retry : action_for(failure);
  if (phase_ == Phase::committing && database_.commit_may_have_left()) {
    reporter_.commit_unknown(options_.index);
  }
  switch (action) {
    case Action::row:
    case Action::hold:
      return hold(failure, now);
    case Action::halve_batch:
      if (phase_ == Phase::copying || phase_ == Phase::finishing) {
        rows_max_now_ = std::max<std::uint64_t>(1, std::min(rows_max_now_, batch_.rows) / 2);
      }
      break;
    case Action::reconnect:
    case Action::next_host:
      breaker_.trip(options_.index);
      break;
    case Action::retry:
    case Action::back_off:
      break;
  }
  // The first time at once: another host takes writes already, or will soon.
  const bool at_once = action == Action::next_host && !trouble_reported_;
  const milliseconds delay = at_once ? milliseconds(0) : retry_backoff_.next();
  const bool server_lost =
      action == Action::reconnect || action == Action::next_host || !database_.connected();
  trouble_reported_ = true;
  reporter_.failed(options_.index, step_name(), failure, delay);
  leave_until(now + delay, LaneState::waiting);
  if (server_lost) {
    seen_through_ = breaker_.times_through();
    retry_soonest_at_ = now + options_.retry.least;
  }
}

void Lane::hold(const Failure& failure, Clock::time_point now) {
  const milliseconds delay = hold_backoff_.next();
  trouble_reported_ = true;
  reporter_.held(options_.index, step_name(), failure, delay);
  leave_until(now + delay, LaneState::held);
}

// Whatever failed: the connection goes, with the transaction that may be open on it, and R comes
// before the next row. If this lane tried for all, another one may meanwhile: the reason may be
// this lane's own, such as a lock on its segment's watermark.
void Lane::leave_until(Clock::time_point retry_at, LaneState state) {
  breaker_.give_up(options_.index);
  database_.disconnect();
  phase_ = Phase::disconnected;
  retry_at_ = retry_at;
  seen_through_.reset();
  segment_resolved_ = false;
  cursor_ = {};
  next_ = committed_;
  set_state(state);
}

void Lane::set_state(LaneState state) {
  if (state_ == state) return;
  state_ = state;
  reporter_.state_changed(options_.index, state);
}

std::string_view Lane::step_name() const {
  switch (phase_) {
    case Phase::disconnected:
    case Phase::ready:
      return "wait";
    case Phase::connecting:
      return "connect";
    case Phase::describing:
      return "look at the table";
    case Phase::resolving:
      return "resolve";
    case Phase::opening:
      return "begin";
    case Phase::copying:
    case Phase::finishing:
      return "copy";
    case Phase::committing:
      return "commit";
  }
  std::abort();
}

}  // namespace sluice::sink
