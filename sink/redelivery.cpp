#include "sink/redelivery.hpp"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <utility>

#include "sink/merge_plan.hpp"
#include "sink/sqlstate.hpp"

namespace sluice::sink {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kCheckInterval{5'000};
constexpr milliseconds kQuietCheckInterval{60'000};
constexpr std::size_t kSegmentsMax = 500;  // in one look
// So many windows in a row of which nothing could be delivered end a round.
constexpr std::size_t kFruitlessWindowsMax = 10;
// Watermark rows live 30 days.
constexpr std::int64_t kWatermarkLifeUs = std::int64_t{30} * 24 * 3600 * 1'000'000;

}  // namespace

Redelivery::Redelivery(RedeliveryOptions options, std::vector<Route> routes,
                       spool::AsideQueue& queue, MakeEvent make_event, RedeliveryDatabase& database,
                       RedeliveryReporter& reporter)
    : options_(std::move(options)),
      queue_(queue),
      make_event_(std::move(make_event)),
      database_(database),
      reporter_(reporter),
      tables_(std::move(routes)),
      backoff_(options_.seed, options_.retry),
      budget_(std::numeric_limits<std::size_t>::max()),
      held_interval_(options_.round_interval),
      limit_(options_.batch_rows_max) {}

Redelivery::Wait Redelivery::turn(Clock::time_point now) {
  return phase_ == Phase::resting ? begin_round(now) : drive_step(now);
}

Redelivery::Wait Redelivery::begin_round(Clock::time_point now) {
  if (finishing_soon_) return {};
  if (now < next_round_) return {{}, next_round_};
  const auto due = interval();
  if (!due || now < ended_ + *due) {
    // Something may come meanwhile that is due sooner.
    next_round_ = now + options_.round_interval;
    return {{}, next_round_};
  }
  delivered_any_ = false;
  fruitless_windows_ = 0;
  told_closed_.clear();
  start(Phase::connecting, now, options_.connect_timeout);
  database_.start_connect();
  return {database_.wait(), now};
}

// How long after the last round the next one is due; none: there is nothing to do.
std::optional<milliseconds> Redelivery::interval() const {
  if (queue_.has_waiting()) return options_.round_interval;
  if (!queue_.to_try({}, 1).empty()) return held_interval_;
  const auto counts = queue_.redelivered();
  if (counts.empty()) return std::nullopt;
  const bool any =
      std::any_of(counts.begin(), counts.end(), [](const auto& each) { return each.rows > 0; });
  return any ? kCheckInterval : kQuietCheckInterval;
}

void Redelivery::start(Phase phase, Clock::time_point now, milliseconds timeout) {
  phase_ = phase;
  deadline_ = now + timeout;
}

Redelivery::Wait Redelivery::drive_step(Clock::time_point now) {
  switch (database_.advance()) {
    case Progress::done:
      step_done(now);
      break;
    case Progress::failed:
      step_failed(database_.failure(), now);
      break;
    case Progress::working:
      if (now < deadline_) return {database_.wait(), deadline_};
      fail_round({"", "no answer from the server in time", ""}, now);
      break;
  }
  if (phase_ == Phase::resting) return {{}, next_round_};
  return {database_.wait(), now};
}

void Redelivery::step_done(Clock::time_point now) {
  switch (phase_) {
    case Phase::connecting:
      start(Phase::describing, now, options_.query_timeout);
      return database_.start_describe(tables_.names());
    case Phase::describing:
      (void)tables_.bind(database_.catalog());
      return now >= next_check_ ? start_check(now) : load(now);
    case Phase::counting:
      return counted(now);
    case Phase::listing:
      return listed(now);
    case Phase::looking_up:
      return looked_up(now);
    case Phase::opening: {
      RouteTable& table = *window_[at_].table;
      database_.send_rows(table.buffer.bytes());
      table.buffer.clear();
      start(Phase::finishing, now, options_.copy_timeout);
      return database_.start_finish_copy();
    }
    case Phase::finishing:
      return copied(now);
    case Phase::comparing:
      return compared(now);
    case Phase::committing:
      committed();
      return try_next(now);
    case Phase::rolling_back:
      return try_next(now);
    case Phase::resting:
      break;
  }
  std::abort();
}

void Redelivery::step_failed(const Failure& failure, Clock::time_point now) {
  const bool in_rows =
      phase_ == Phase::opening || phase_ == Phase::finishing || phase_ == Phase::comparing;
  if (!in_rows || !database_.connected()) return fail_round(failure, now);
  switch (action_for(failure)) {
    case Action::row:
      row_refused(failure);
      return roll_back(now);
    case Action::hold:
      close_table(*window_[at_].table, failure);
      return roll_back(now);
    case Action::halve_batch:
      limit_ = std::max<std::size_t>(1, (batch_end_ - at_) / 2);
      return fail_round(failure, now);
    case Action::reconnect:
    case Action::next_host:
    case Action::retry:
    case Action::back_off:
      return fail_round(failure, now);
  }
}

// Segments take turns where there are many.
void Redelivery::start_check(Clock::time_point now) {
  next_check_ = now + kCheckInterval;
  expected_ = queue_.redelivered();
  differing_.clear();
  if (expected_.empty()) return load(now);
  if (expected_.size() > kSegmentsMax) {
    const std::size_t first = check_turn_++ * kSegmentsMax % expected_.size();
    std::rotate(expected_.begin(), expected_.begin() + static_cast<std::ptrdiff_t>(first),
                expected_.end());
    expected_.resize(kSegmentsMax);
  }
  std::vector<spool::Uuid> segments;
  for (const auto& each : expected_) segments.push_back(each.segment);
  start(Phase::counting, now, options_.query_timeout);
  database_.start_count_redelivered(segments);
}

void Redelivery::counted(Clock::time_point now) {
  const auto& found = database_.redelivered_counts();
  for (const spool::RedeliveredCount& each : expected_) {
    const auto has = std::find_if(found.begin(), found.end(),
                                  [&](const auto& count) { return count.segment == each.segment; });
    const std::uint64_t rows = has == found.end() ? 0 : has->rows;
    if (rows != each.rows) differing_.push_back(each.segment);
  }
  list_next(now);
}

void Redelivery::list_next(Clock::time_point now) {
  if (differing_.empty()) return load(now);
  start(Phase::listing, now, options_.query_timeout);
  database_.start_list_redelivered(differing_.back());
}

void Redelivery::listed(Clock::time_point now) {
  const spool::Uuid segment = differing_.back();
  differing_.pop_back();
  const std::uint64_t lost = queue_.found_redelivered(segment, database_.redelivered_indexes());
  if (lost > 0) reporter_.lost(segment, lost);
  list_next(now);
}

// The next window, and what the database knows of it.
void Redelivery::load(Clock::time_point now) {
  window_.clear();
  at_ = 0;
  std::uint64_t bytes = 0;
  const auto tries = queue_.to_try(cursor_, options_.batch_rows_max);
  if (tries.empty() || fruitless_windows_ >= kFruitlessWindowsMax) {
    if (tries.empty()) cursor_ = {};
    return end_round(now);
  }
  for (const spool::AsideTry& next : tries) {
    if (bytes >= options_.batch_bytes_max) break;
    cursor_ = next.place;
    auto item = read(next);
    if (!item) continue;
    bytes += item->event.bytes().size();
    window_.push_back(std::move(*item));
  }
  ++fruitless_windows_;
  if (window_.empty()) return load(now);
  claims_.clear();
  for (const Item& item : window_) claims_.push_back(claim_of(item));
  start(Phase::looking_up, now, options_.query_timeout);
  database_.start_look_up(claims_);
}

std::optional<Redelivery::Item> Redelivery::read(const spool::AsideTry& next) {
  auto text = queue_.read(next.position);
  if (!text) return std::nullopt;
  Item item{std::move(*text), next.place, spool::Chunk(budget_, text->line.size()), nullptr};
  if (!make_event_(item.text, item.event)) {
    reporter_.unreadable(next.position);
    change(item, spool::AsideState::dead, {"", "the line makes no event any more", ""});
    return std::nullopt;
  }
  item.table = tables_.find(spool::EventView(item.event.bytes().data()));
  return item;
}

void Redelivery::looked_up(Clock::time_point now) {
  const auto& standings = database_.standings();
  std::erase_if(window_, [&](const Item& item) {
    const auto found = std::find_if(standings.begin(), standings.end(), [&](const auto& each) {
      return each.event == item.text.position;
    });
    if (found != standings.end() && found->delivered) {
      queue_.delivered(item.text.position);
      reporter_.delivered(item.text.position, true);
      return true;
    }
    const bool counts = found != standings.end() && found->counts;
    if (!counts) reporter_.left_to_segment(item.text.position);
    return !counts;
  });
  const auto order = tables_.in_order_of_references();
  const auto rank = [&](const Item& item) {
    return std::find(order.begin(), order.end(), item.table) - order.begin();
  };
  std::stable_sort(window_.begin(), window_.end(),
                   [&](const Item& a, const Item& b) { return rank(a) < rank(b); });
  try_next(now);
}

// The next batch of rows for one table; behind the window's last the next window.
void Redelivery::try_next(Clock::time_point now) {
  while (at_ < window_.size()) {
    const Item& first = window_[at_];
    if (first.table == nullptr) {
      refused(first, {"42704", "no route takes this type", ""});
      ++at_;
    } else if (first.table->closed) {
      leave_to_closed_table(first);
      ++at_;
    } else if (fill_batch(*first.table)) {
      start(Phase::opening, now, options_.copy_timeout);
      return database_.start_copy(first.table->copy_target(), {});
    }
  }
  load(now);
}

// The rows of [at_, batch_end_). False: the first one makes none, and is settled by that.
bool Redelivery::fill_batch(RouteTable& table) {
  table.begin_piece(0);
  claims_.clear();
  table.encoder->append_header(table.buffer);
  batch_end_ = at_;
  while (batch_end_ < window_.size() && window_[batch_end_].table == &table &&
         table.rows < limit_) {
    const Item& item = window_[batch_end_];
    const spool::EventView event(item.event.bytes().data());
    if (const auto error = table.encoder->append_row(event, item.text.position, table.buffer)) {
      if (batch_end_ != at_) break;
      refused(item, {error->sqlstate, error->message, error->column});
      ++at_;
      return false;
    }
    claims_.push_back(claim_of(item));
    ++table.rows;
    table.indexes.push_back(item.text.position.index);
    ++batch_end_;
  }
  table.encoder->append_trailer(table.buffer);
  return true;
}

void Redelivery::copied(Clock::time_point now) {
  RouteTable& table = *window_[at_].table;
  const std::uint64_t rows = database_.rows_copied();
  const bool may_lack = table.route.trigger_may_skip && !table.is_merging;
  if (rows > table.rows || (rows < table.rows && !may_lack)) {
    close_table(table, {"", "the table took fewer rows than were sent", ""});
    return roll_back(now);
  }
  if (table.is_merging && database_.rows_added() < rows) return not_all_added(now);
  start_commit(now);
}

// Rows whose key is taken: alone each of them is looked at.
void Redelivery::not_all_added(Clock::time_point now) {
  const MergePlan& plan = *window_[at_].table->plan;
  const std::size_t rows = batch_end_ - at_;
  if (rows > 1) {
    limit_ = rows / 2;
    return roll_back(now);
  }
  if (plan.compare.empty()) return plan.conflicts_at_once ? compared(now) : start_commit(now);
  start(Phase::comparing, now, options_.query_timeout);
  database_.start_compare(plan);
}

void Redelivery::compared(Clock::time_point now) {
  RouteTable& table = *window_[at_].table;
  for (const MergeConflict& conflict : database_.conflicts()) {
    if (!conflict.is_found && !table.route.trigger_may_skip) {
      close_table(table, {"", "the table took fewer rows than were sent", ""});
      return roll_back(now);
    }
    const bool passes =
        !conflict.is_found || table.route.on_conflict == OnConflict::skip || is_duplicate(conflict);
    if (passes) continue;
    row_refused({"23505", "another row has its key", ""});
    return roll_back(now);
  }
  start_commit(now);
}

// As a lane has it.
bool Redelivery::is_duplicate(const MergeConflict& conflict) const {
  const spool::EventView event(window_[at_].event.bytes().data());
  const spool::RecordHeader& header = event.header();
  const bool has_id = (header.flags & spool::kHasId) != 0;
  const bool has_time = header.occurred_us != header.received_us;
  return conflict.agrees && (conflict.id_agrees || !has_id) && (conflict.time_agrees || !has_time);
}

void Redelivery::start_commit(Clock::time_point now) {
  start(Phase::committing, now, options_.commit_timeout);
  database_.start_redeliver(claims_);
}

void Redelivery::committed() {
  RouteTable& table = *window_[at_].table;
  table.merges_below = 0;
  options_.brakes->passed(table.place);
  for (; at_ < batch_end_; ++at_) {
    queue_.delivered(window_[at_].text.position);
    reporter_.delivered(window_[at_].text.position, false);
  }
  limit_ = std::min(options_.batch_rows_max, limit_ * 2);
  fruitless_windows_ = 0;
  delivered_any_ = true;
  backoff_.reset();
}

void Redelivery::row_refused(const Failure& failure) {
  const std::size_t rows = batch_end_ - at_;
  if (rows > 1) {
    limit_ = rows / 2;
    return;
  }
  RouteTable& table = *window_[at_].table;
  if (failure.sqlstate == "23505" && table.plan && !table.is_merging) {
    table.merges_below = std::numeric_limits<std::uint64_t>::max();
    limit_ = 1;
    return;
  }
  table.merges_below = 0;
  refused(window_[at_], failure);
  ++at_;
  limit_ = std::min(options_.batch_rows_max, limit_ * 2);
}

void Redelivery::refused(const Item& item, const Failure& failure) {
  using spool::AsideState;
  const bool is_orphan = failure.sqlstate == "23503" && options_.parent_wait.count() > 0;
  const bool was_held = item.text.state == AsideState::held;
  const bool waits_on = is_orphan && item.text.state == AsideState::waiting && !has_waited(item);
  // A parent that is missing says nothing of the table.
  if (!is_orphan && item.table != nullptr) {
    const std::size_t place = item.table->place;
    if (was_held && options_.brakes->is_due(place)) return close_table(*item.table, failure);
    options_.brakes->refused(place, item.text.uid);
  }
  const AsideState state =
      waits_on || (is_orphan && was_held) ? AsideState::waiting : AsideState::dead;
  if (!waits_on) change(item, state, failure);
  reporter_.refused(item.text.position, state, failure);
}

// One that the disk does not take stays as it was, and is tried again.
void Redelivery::change(const Item& item, spool::AsideState state, const Failure& failure) {
  spool::AsideRecord record = item.text.record();
  record.state = state;
  if (state == spool::AsideState::waiting) record.time_us = options_.unix_now_us();
  record.sqlstate = failure.sqlstate;
  record.message = failure.message;
  record.column = failure.column;
  (void)queue_.change(record);
}

void Redelivery::close_table(RouteTable& table, const Failure& failure) {
  table.closed = failure;
}

// What waits for its parent must not die of a table that is out of order.
void Redelivery::leave_to_closed_table(const Item& item) {
  RouteTable* const table = item.table;
  if (std::find(told_closed_.begin(), told_closed_.end(), table) == told_closed_.end()) {
    told_closed_.push_back(table);
    reporter_.closed(table->route.table, *table->closed);
  }
  if (item.text.state == spool::AsideState::waiting && has_waited(item)) {
    change(item, spool::AsideState::held, *table->closed);
  }
}

void Redelivery::roll_back(Clock::time_point now) {
  start(Phase::rolling_back, now, options_.query_timeout);
  database_.start_rollback();
}

void Redelivery::end_round(Clock::time_point now) {
  ++rounds_done_;
  database_.disconnect();
  phase_ = Phase::resting;
  held_interval_ = delivered_any_ ? options_.round_interval
                                  : std::min(options_.held_interval_max, held_interval_ * 2);
  ended_ = now;
  next_round_ = now + options_.round_interval;
}

// The next round looks up what became of a commit whose outcome is unknown.
void Redelivery::fail_round(const Failure& failure, Clock::time_point now) {
  ++rounds_failed_;
  const milliseconds delay = backoff_.next();
  reporter_.failed(step_name(), failure, delay);
  database_.disconnect();
  window_.clear();
  cursor_ = {};
  phase_ = Phase::resting;
  ended_ = {};
  next_round_ = now + delay;
}

AsideClaim Redelivery::claim_of(const Item& item) const {
  return {item.text.position, options_.unix_now_us() - item.text.time_us > kWatermarkLifeUs};
}

bool Redelivery::has_waited(const Item& item) const {
  const auto since = std::chrono::microseconds(options_.unix_now_us() - item.text.time_us);
  return since >= options_.parent_wait;
}

std::string_view Redelivery::step_name() const {
  switch (phase_) {
    case Phase::resting:
      return "wait";
    case Phase::connecting:
      return "connect";
    case Phase::describing:
      return "look at the tables";
    case Phase::counting:
    case Phase::listing:
      return "check";
    case Phase::looking_up:
      return "look up";
    case Phase::opening:
    case Phase::finishing:
      return "copy";
    case Phase::comparing:
      return "compare";
    case Phase::committing:
      return "commit";
    case Phase::rolling_back:
      return "roll back";
  }
  std::abort();
}

}  // namespace sluice::sink
