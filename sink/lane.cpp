#include "sink/lane.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "sink/json_text.hpp"
#include "sink/sql_text.hpp"
#include "sink/sqlstate.hpp"

namespace sluice::sink {
namespace {

using std::chrono::duration_cast;
using std::chrono::microseconds;
using std::chrono::milliseconds;

// Rows are handed over in parts of this size: large enough that a send() costs little per row,
// small enough that a batch fills the server's pipe while the next part is encoded.
constexpr std::size_t kHandoverBytes = 64 * 1024;
constexpr int kHandoversPerTurn = 4;
// How often a lane looks whether the one that tries for all got through.
constexpr milliseconds kBreakerPoll{50};
constexpr std::uint64_t kProbeRowsMax = 100;
// Each savepoint is a subtransaction: 64 of them are what the server keeps at hand.
constexpr std::uint64_t kPiecesMax = 60;
// Batches are whole again after so many times batch_rows_max rows with none refused.
constexpr std::uint64_t kCalmBatches = 10;
constexpr std::chrono::seconds kLookAgain{30};
const Failure kNoRoute{"42704", "no route takes this type", ""};
constexpr std::chrono::seconds kReadAgain{1};
// How far a lane looks for events that could be delivered: 16 MiB, if blocks are full.
constexpr int kBlocksAhead = 64;
// Watermark rows live 30 days: an older segment without one may have been delivered.
constexpr std::int64_t kWatermarkLifeUs = std::int64_t{30} * 24 * 3600 * 1'000'000;

// The event's type as text; empty if it has none.
std::string type_of(const spool::EventView& event) {
  for (const spool::FieldSpan& span : event.fields()) {
    if (span.field != static_cast<std::uint8_t>(spool::Field::type)) continue;
    const std::string_view quoted = event.text(span);
    const unsigned flags = event.header().flags & kMendings;
    std::string text(mended_bytes_max(quoted.size(), flags), '\0');
    const char* const end = write_decoded(text.data(), quoted.substr(1, quoted.size() - 2), flags);
    text.resize(static_cast<std::size_t>(end - text.data()));
    return text;
  }
  return {};
}

std::string rows_missing(const RouteTable& table) {
  std::string text = "table " + TableName::parse(table.route.table).quoted() +
                     " took fewer rows than were sent: a BEFORE trigger drops rows";
  if (!table.skipping_triggers.empty()) text += " (" + table.skipping_triggers + ")";
  return text + "; a route with trigger_may_skip = true lets it";
}

}  // namespace

Lane::Lane(LaneOptions options, std::vector<Route> routes, spool::SpoolReader& reader,
           Database& database, Breaker& breaker, LaneReporter& reporter)
    : options_(options),
      reader_(reader),
      database_(database),
      breaker_(breaker),
      reporter_(reporter),
      retry_backoff_(options.seed, options.retry),
      hold_backoff_(options.seed + 1, options.hold),
      tables_(std::move(routes)),
      rows_max_now_(options.batch_rows_max),
      piece_sizes_(kCalmBatches * options.batch_rows_max) {}

Lane::Wait Lane::turn(Clock::time_point now) {
  switch (phase_) {
    case Phase::disconnected:
      return start_connecting(now);
    case Phase::ready:
      return find_work(now);
    case Phase::copying:
      return copy_rows(now);
    case Phase::sending:
      return send_kept_back(now);
    case Phase::connecting:
    case Phase::describing:
    case Phase::resolving:
    case Phase::opening:
    case Phase::finishing:
    case Phase::comparing:
    case Phase::settling:
    case Phase::rolling_back:
    case Phase::committing:
    case Phase::confirming:
    case Phase::checking:
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
  if (phase_ == Phase::opening && batch_.copied == batch_.streamed && !has_part()) {
    (void)take_events(now);
  }
  return {database_.wait(), deadline_};
}

Lane::Wait Lane::step_done(Clock::time_point now) {
  switch (phase_) {
    case Phase::connecting:
      start(Phase::describing, now, options_.connect_timeout);
      database_.start_describe(tables_.names());
      break;
    case Phase::describing:
      fit_routes(now);
      break;
    case Phase::resolving:
      resolved(now);
      break;
    case Phase::opening:
      unchecked_.reset();
      phase_ = batch_.copied == batch_.streamed ? Phase::copying : Phase::sending;
      break;
    case Phase::finishing:
      copy_finished(now);
      break;
    case Phase::comparing:
      compared(now);
      break;
    case Phase::settling:
      unchecked_.reset();
      start_commit(now);
      break;
    case Phase::rolling_back:
      rolled_back();
      break;
    case Phase::committing:
      committed(now);
      break;
    case Phase::confirming:
      confirmed();
      break;
    case Phase::checking:
      checked();
      break;
    case Phase::disconnected:
    case Phase::ready:
    case Phase::copying:
    case Phase::sending:
      std::abort();
  }
  return {database_.wait(), now};
}

// The routes' columns with the types that the tables have today.
void Lane::fit_routes(Clock::time_point now) {
  look_again_at_.reset();
  if (const auto mismatch = tables_.bind(database_.catalog())) {
    if (options_.aside == nullptr || tables_.are_all_closed()) return hold(*mismatch, now);
    look_again_at_ = now + kLookAgain;
  } else {
    passes_held_ = false;
  }
  phase_ = Phase::ready;
  check_.look_at_once();  // this may be another server
}

// Connected and nothing under way: a look at the watermarks when it is due, R for a segment that is
// not resolved, else the next batch.
Lane::Wait Lane::find_work(Clock::time_point now) {
  const bool looks_again = look_again_at_ && now >= *look_again_at_;
  if (looks_again || !database_.still_open()) {
    // Nothing was under way, so nothing failed: a new connection at once.
    leave_until(now, LaneState::connecting);
    return {{}, now};
  }
  if (check_.is_due(now) && start_check(now)) return {database_.wait(), now};
  if (!segment_ && !take_segment(now)) return phase_ == Phase::ready ? rest() : Wait{{}, now};
  if (!segment_->resolved) {
    start_resolve(now);
    return {database_.wait(), now};
  }
  const spool::ReadResult found = read(segment_->next);
  if (const auto* block = std::get_if<spool::BlockPtr>(&found)) {
    open_batch(*block, now);
    return {database_.wait(), now};
  }
  if (std::holds_alternative<spool::NothingYet>(found)) return rest();
  if (std::holds_alternative<spool::UnreadableNow>(found)) {
    Wait wait = rest();
    wait.until = wait.until ? std::min(*wait.until, now + kReadAgain) : now + kReadAgain;
    return wait;
  }
  if (const auto* gone = std::get_if<spool::Gone>(&found)) {
    reporter_.commits_lost(options_.index, {segment_->id, segment_->next},
                           gone->first_index - segment_->next, false);
    segment_->next = segment_->committed = gone->first_index;
    return {{}, now};
  }
  end_segment(now);
  return {database_.wait(), now};
}

// Nothing to send. Coming here from work or trouble tells that the server answers; a lane that
// looks again while it rests has not asked it.
Lane::Wait Lane::rest() {
  if (state_ != LaneState::idle) got_through();
  set_state(LaneState::idle);
  return {database_.wait(), check_.next()};
}

// False: there is nothing to look at.
bool Lane::start_check(Clock::time_point now) {
  std::vector<spool::Position> expected = reader_.delivered();
  if (segment_ && segment_->resolved && segment_->watermark > 0) {
    expected.push_back({segment_->id, segment_->watermark});
  }
  const auto segments = check_.begin(std::move(expected), now);
  if (segments.empty()) return false;
  start(Phase::checking, now, options_.resolve_timeout);
  database_.start_check(segments);
  return true;
}

void Lane::checked() {
  phase_ = Phase::ready;
  bool rewound = false;
  for (const spool::Position& lost : check_.lost(database_.watermarks())) {
    if (segment_ && segment_->id == lost.segment) {
      segment_->resolved = false;  // R finds it under the row's lock
      continue;
    }
    const std::uint64_t events = reader_.rewind(lost);
    if (events == 0) continue;
    go_again_.push_back({lost.segment, lost.index + events});
    reporter_.commits_lost(options_.index, lost, events, true);
    rewound = true;
  }
  // The older ones first.
  if (rewound) segment_.reset();
}

// The segment to deliver now. False: there is none, or none that may be.
bool Lane::take_segment(Clock::time_point now) {
  const auto first = reader_.first_segment();
  if (!first) return false;
  if (forgotten_ == first->id) {
    hold({"", "the database has forgotten the watermark of a segment that is 30 days old", ""},
         now);
    return false;
  }
  segment_.emplace(*first);
  refused_.clear();
  tables_.begin_segment();
  cursor_ = {};
  kept_.clear();
  return true;
}

void Lane::start_resolve(Clock::time_point now) {
  const std::int64_t age_us = options_.unix_now_us() - segment_->created_us;
  start(Phase::resolving, now, options_.resolve_timeout);
  database_.start_resolve(segment_->id,
                          age_us > kWatermarkLifeUs ? IfMissing::leave : IfMissing::insert);
}

void Lane::resolved(Clock::time_point now) {
  phase_ = Phase::ready;
  const auto upto = database_.resolved_upto();
  if (!upto) return forgotten();
  const bool first = !segment_->known;
  const std::uint64_t before = segment_->watermark;
  if ((first || *upto < before) && !recall_refused(*upto, now)) return;
  segment_->known = true;
  segment_->resolved = true;
  segment_->confirmed = false;
  segment_->watermark = *upto;
  if (first || *upto < before) found_lost(before, first);
  if (*upto > segment_->committed) found_committed(*upto);
  segment_->next = segment_->committed;
}

// Rows that an earlier delivery of the segment set aside are not sent again. False: held, as it
// cannot be known which these are.
bool Lane::recall_refused(std::uint64_t upto, Clock::time_point now) {
  if (options_.aside == nullptr) return true;
  auto entries = options_.aside->records_from({segment_->id, upto});
  if (!entries) {
    hold({"", "the spool's set-aside records cannot be read", ""}, now);
    return false;
  }
  refused_.recall(std::move(*entries));
  return true;
}

// The watermark is further than this lane knew. Not only after the R that follows an unknown
// outcome: a COMMIT may also arrive behind that R, and then the next one's compare fails and the R
// after it sees this.
void Lane::found_committed(std::uint64_t upto) {
  SegmentProgress& at = *segment_;
  const std::uint64_t sent_upto = std::clamp(at.commit_sent_upto, at.committed, upto);
  const std::uint64_t set_aside = refused_.recorded_between(at.committed, upto);
  const std::uint64_t set_aside_of_others = refused_.recorded_between(sent_upto, upto);
  if (sent_upto > at.committed) {
    reporter_.unknown_was_committed(options_.index, at.events_between(at.committed, sent_upto) -
                                                        (set_aside - set_aside_of_others));
  }
  const std::uint64_t known = sent_upto - at.committed + set_aside_of_others;
  const std::uint64_t released = reader_.release({at.id, upto});
  if (set_aside > 0) reporter_.set_aside_committed(options_.index, set_aside);
  if (released > known) reporter_.found_committed(options_.index, released - known);
  at.committed = upto;
  refused_.forget_below(upto);
  check_.want();
}

// The watermark is not as far as it was, or may not be as far as what was released of the segment
// before this lane took it up: a failover has lost commits.
void Lane::found_lost(std::uint64_t before, bool first) {
  SegmentProgress& at = *segment_;
  const spool::Position from{at.id, at.watermark};
  const std::uint64_t rewound = reader_.rewind(from);
  if (first && rewound == 0) return;
  const bool still_here =
      rewound > 0 || std::holds_alternative<spool::BlockPtr>(reader_.read(from));
  const std::uint64_t events = rewound > 0 ? rewound : at.events_between(from.index, before);
  reporter_.commits_lost(options_.index, from, events, still_here);
  if (!still_here) return;
  go_again_.push_back({at.id, std::max(before, from.index + events)});
  at.committed = at.commit_sent_upto = from.index;
}

void Lane::forgotten() {
  forgotten_ = segment_->id;
  const std::uint64_t events = reader_.quarantine(segment_->id);
  reporter_.segment_forgotten(options_.index, segment_->id, events);
  segment_.reset();
}

// All of the segment is committed. The spool may let it go once a write to its watermark row has
// committed with no warning: then no failover to a standby that was waited for loses it.
void Lane::end_segment(Clock::time_point now) {
  if (segment_->confirmed) return confirmed();
  start(Phase::confirming, now, options_.commit_timeout);
  database_.start_confirm({segment_->id, segment_->watermark});
}

void Lane::confirmed() {
  phase_ = Phase::ready;
  (void)reader_.release({segment_->id, segment_->next});  // nothing, but that it is all
  reader_.confirm(segment_->id);
  std::erase_if(go_again_, [&](const auto& each) { return each.segment == segment_->id; });
  segment_.reset();
  check_.want();
}

void Lane::open_batch(const spool::BlockPtr& block, Clock::time_point now) {
  batch_ = Batch(segment_->committed, options_.batch_delay, commit_cost_, now);
  batch_.is_in_pieces = piece_sizes_.in_pieces();
  if (batch_.is_in_pieces) batch_.savepoint = Savepoint::make;
  set_state(LaneState::sending);
  stand_on(block);
  begin_piece(now);
}

// REQUIRES: the cursor stands on an event.
void Lane::begin_piece(Clock::time_point now) {
  kept_.forget_below(segment_->next);
  batch_.piece_began = now;
  batch_.piece_from = segment_->next;
  batch_.piece_rows = 0;
  batch_.streamed = batch_.copied = nullptr;
  batch_.is_settled = batch_.piece_ends = false;
  if (batch_.is_in_pieces) at_piece_ = batch_;
  tables_.begin_piece(segment_->next);
  RouteTable* const first = tables_.find(cursor_.event());
  if (first == nullptr || first->closed || first->refers_to_others) {
    phase_ = Phase::copying;
    return;
  }
  batch_.streamed = first;
  start_copy(*first, tables_.is_single(), now);
}

CopyPlace Lane::take_place(bool settles) {
  return {!std::exchange(batch_.is_open, true), settles,
          std::exchange(batch_.savepoint, Savepoint::none)};
}

void Lane::start_copy(RouteTable& table, bool settles, Clock::time_point now) {
  batch_.copied = &table;
  batch_.sent = 0;
  if (batch_.streamed == &table) table.encoder->append_header(table.buffer);
  start(Phase::opening, now, options_.copy_timeout);
  database_.start_copy(table.copy_target(), take_place(settles));
  batch_.is_settled = settles;
}

// None: the server takes rows now.
std::optional<Lane::Wait> Lane::wait_for_room(Clock::time_point now) {
  if (!database_.connected()) {
    fail(database_.failure(), now);
    return Wait{{}, now};
  }
  if (!database_.ready_for_rows()) {
    if (now < deadline_) return Wait{database_.wait(), deadline_};
    fail({"", "the server took no rows in time", ""}, now);
    return Wait{{}, now};
  }
  if (database_.interrupted()) {
    finish_copy(now);
    return Wait{database_.wait(), now};
  }
  deadline_ = now + options_.copy_timeout;
  return std::nullopt;
}

Lane::Wait Lane::copy_rows(Clock::time_point now) {
  for (int i = 0; i < kHandoversPerTurn; ++i) {
    if (batch_.streamed == nullptr) {
      if (!database_.still_open()) {
        leave_until(now, LaneState::connecting);
        return {{}, now};
      }
    } else if (const auto wait = wait_for_room(now)) {
      return *wait;
    }
    const bool more_to_read = has_part() || take_events(now);
    if ((!more_to_read && finishing_soon_) || now >= batch_.closing_time(more_to_read)) {
      batch_.must_close = true;
    }
    if (batch_.must_close || batch_.piece_ends) {
      close_batch(now);
      return {database_.wait(), now};
    }
    if (!more_to_read) {
      // The time that the lane itself waits is not the server's.
      deadline_ = batch_.closes_at + options_.copy_timeout;
      return {{database_.wait().fd, true, false}, batch_.closes_at};
    }
    if (batch_.streamed == nullptr) continue;
    database_.send_rows(batch_.streamed->buffer.bytes());
    batch_.streamed->buffer.clear();
  }
  return {database_.wait(), now};
}

Lane::Wait Lane::send_kept_back(Clock::time_point now) {
  const std::span<const std::byte> bytes = batch_.copied->buffer.bytes();
  for (int i = 0; i < kHandoversPerTurn; ++i) {
    if (const auto wait = wait_for_room(now)) return *wait;
    const std::size_t count = std::min(kHandoverBytes, bytes.size() - batch_.sent);
    database_.send_rows(bytes.subspan(batch_.sent, count));
    batch_.sent += count;
    if (batch_.sent == bytes.size()) {
      finish_copy(now);
      break;
    }
  }
  return {database_.wait(), now};
}

// From the spool, or again. Of a batch that is not in pieces nothing goes again but from its start,
// after R.
spool::ReadResult Lane::read(std::uint64_t index) {
  if (spool::BlockPtr kept = kept_.find(index)) return kept;
  return reader_.read({segment_->id, index});
}

// The cursor goes to the next event; there may be none before the block's first.
void Lane::stand_on(const spool::BlockPtr& block) {
  if (!batch_.is_in_pieces) kept_.forget_below(block->first_index);
  kept_.keep(block);
  if (block->first_index > segment_->next) segment_->skip_to(block->first_index);
  cursor_ = spool::BlockCursor(block, segment_->next);
}

// Rows that were encoded while the server opened the COPY are enough for a part.
bool Lane::has_part() const {
  return batch_.streamed != nullptr && batch_.streamed->buffer.size() >= kHandoverBytes;
}

// Takes events until they make a part to hand over (then true), the piece or the batch has to
// close, or nothing more is there.
bool Lane::take_events(Clock::time_point now) {
  const std::uint64_t part_end = batch_.bytes + kHandoverBytes;
  while (!batch_.must_close && !batch_.piece_ends && batch_.bytes < part_end) {
    if (cursor_.at_end()) {
      const spool::ReadResult found = read(segment_->next);
      const auto* block = std::get_if<spool::BlockPtr>(&found);
      if (block == nullptr) {
        // A sealed segment's end also ends the batch; an open one's may go on.
        batch_.must_close = !std::holds_alternative<spool::NothingYet>(found);
        return false;
      }
      stand_on(*block);
    }
    batch_.note_chunk(cursor_.chunk_bytes(), now);
    take_event(cursor_.event());
  }
  return true;
}

void Lane::take_event(const spool::EventView& event) {
  if (!refused_.empty() && pass_refused(event)) return;
  RouteTable* const table = tables_.find(event);
  if (table == nullptr) return row_unencodable(event, table, kNoRoute);
  if (table->closed) return hold_row(event, *table->closed);
  CopyBuffer& buffer = table->buffer;
  const std::size_t before = buffer.size();
  if (before == 0 && batch_.streamed != table) table->encoder->append_header(buffer);
  if (const auto refused =
          table->encoder->append_row(event, {segment_->id, segment_->next}, buffer)) {
    return row_unencodable(event, table, {refused->sqlstate, refused->message, refused->column});
  }
  ++table->rows;
  table->indexes.push_back(segment_->next);
  count_row(event, buffer.size() - before);
}

void Lane::count_row(const spool::EventView& event, std::size_t bytes) {
  batch_.add_row(segment_->next, event.header().received_us, bytes);
  ++segment_->next;
  cursor_.advance();
  batch_.piece_ends = batch_.is_in_pieces && batch_.piece_rows >= piece_sizes_.next();
  batch_.must_close = batch_.rows >= rows_limit() || batch_.bytes >= options_.batch_bytes_max;
}

void Lane::hold_row(const spool::EventView& event, const Failure& reason) {
  if (!others_go_on()) {
    batch_.stuck = reason;
    batch_.must_close = true;
    return;
  }
  refused_.add(segment_->next, reason, spool::AsideState::held);
  (void)pass_refused(event);
}

// The spool has more room than the set-aside records, and keeps the order: only an event that can
// be delivered, near behind this one, is a reason to let this one be passed.
bool Lane::others_go_on() {
  const auto goes_on = [&](const spool::EventView& event) {
    const RouteTable* const table = tables_.find(event);
    return table != nullptr && !table->closed;
  };
  return passes_held_ = passes_held_ || find_ahead(goes_on);
}

// The index of the first such event of the segment, not far ahead.
std::optional<std::uint64_t> Lane::find_ahead(
    const std::function<bool(const spool::EventView&)>& is_wanted) {
  spool::BlockCursor ahead = cursor_;
  std::uint64_t index = segment_->next;
  for (int block = 0; block < kBlocksAhead; ++block) {
    for (; !ahead.at_end(); ahead.advance()) {
      if (is_wanted(ahead.event())) return ahead.index();
      index = ahead.index() + 1;
    }
    const spool::ReadResult found = reader_.read({segment_->id, index});
    const auto* next = std::get_if<spool::BlockPtr>(&found);
    if (next == nullptr) break;
    index = std::max(index, (*next)->first_index);
    ahead = spool::BlockCursor(*next, index);
  }
  return std::nullopt;
}

// So many rows of the route were refused that its table has changed. If they are all of one
// producer, a row of another one is tried before that is said.
bool Lane::brakes(RouteTable& table) {
  if (!options_.brakes->is_due(table.place) || batch_.has_passed(table)) return false;
  const auto producer = options_.brakes->only_producer(table.place);
  if (!producer) return true;
  if (segment_->next < table.probe) return false;
  const auto is_of_another = [&](const spool::EventView& event) {
    return event.header().uid != *producer && tables_.find(event) == &table;
  };
  const auto probe = find_ahead(is_of_another);
  table.probe = probe.value_or(0);
  return !probe;
}

// The row is left out for good.
void Lane::give_up_row(std::uint64_t index, const spool::EventView& event, Failure reason) {
  const RouteTable* const table = tables_.find(event);
  options_.brakes->refused(table == nullptr ? RouteBrakes::kUnrouted : table->place,
                           event.header().uid);
  refused_.add(index, std::move(reason));
}

// The route's rows are held, until its table is looked at again.
void Lane::close_route(RouteTable& table, const Failure& reason) {
  table.closed = reason;
  look_again_at_ = batch_.began + kLookAgain;
}

// The piece goes again without the route's rows.
void Lane::hold_route(RouteTable& table, const Failure& reason, Clock::time_point now) {
  if (options_.aside == nullptr || !database_.connected()) return hold(reason, now);
  close_route(table, reason);
  send_again(now);
}

// `table`: null if no route takes the event.
void Lane::row_unencodable(const spool::EventView& event, RouteTable* table, Failure reason) {
  if (options_.aside == nullptr) {
    // What is before it goes first. Alone at a batch's start it is what the lane is held for.
    batch_.stuck = std::move(reason);
    batch_.must_close = true;
    return;
  }
  const bool is_held = table == nullptr
                           ? batch_.rows == 0 && options_.brakes->is_due(RouteBrakes::kUnrouted)
                           : table->rows == 0 && brakes(*table);
  if (is_held) {
    if (table != nullptr) close_route(*table, reason);
    return hold_row(event, reason);
  }
  give_up_row(segment_->next, event, std::move(reason));
  (void)pass_refused(event);
}

// Where the event's row was refused: goes on behind it once its record is durable. False: it is to
// be sent.
bool Lane::pass_refused(const spool::EventView& event) {
  RefusedRow* const row = refused_.find(segment_->next);
  if (row == nullptr) return false;
  if (!row->recorded) {
    row->recorded = record(*row, event);
    if (!row->recorded) {
      batch_.stuck = {"", "the spool's disk does not take a set-aside record", ""};
      batch_.must_close = true;
      return true;
    }
  }
  ++segment_->next;
  cursor_.advance();
  return true;
}

// Writes the event among the set-aside records. False: they do not take it.
bool Lane::record(RefusedRow& row, const spool::EventView& event) {
  const RouteTable* const table = tables_.find(event);
  const bool is_durable =
      options_.aside->append({.state = row.state,
                              .segment = segment_->id,
                              .index = row.index,
                              .time_us = options_.unix_now_us(),
                              .received_us = event.header().received_us,
                              .id = event.header().id,
                              .uid = event.header().uid,
                              .route = table == nullptr ? "" : table->route.match,
                              .type = type_of(event),
                              .table = table == nullptr ? "" : table->route.table,
                              .sqlstate = row.reason.sqlstate,
                              .message = row.reason.message,
                              .column = row.reason.column,
                              .line = event.line()});
  if (is_durable) reporter_.row_set_aside(options_.index, {segment_->id, row.index}, row.reason);
  return is_durable;
}

std::uint64_t Lane::rows_limit() const {
  return breaker_.is_probing(options_.index) ? std::min(kProbeRowsMax, rows_max_now_)
                                             : rows_max_now_;
}

void Lane::close_batch(Clock::time_point now) {
  if (batch_.stuck && segment_->next == batch_.from && !database_.interrupted()) {
    return hold(*batch_.stuck, now);
  }
  if (batch_.streamed == nullptr) return copy_next(now);
  finish_copy(now);
}

// The last of the rows, and the end of the COPY.
void Lane::finish_copy(Clock::time_point now) {
  RouteTable& table = *batch_.copied;
  if (&table == batch_.streamed) {
    table.encoder->append_trailer(table.buffer);
    database_.send_rows(table.buffer.bytes());
    table.buffer.clear();
  }
  start(Phase::finishing, now, options_.copy_timeout);
  database_.start_finish_copy();
}

void Lane::copy_finished(Clock::time_point now) {
  RouteTable& table = *batch_.copied;
  const std::uint64_t rows = database_.rows_copied();
  const bool may_lack = table.route.trigger_may_skip && !table.is_merging;
  if (rows > table.rows || (rows < table.rows && !may_lack)) {
    return hold_route(table, {"", rows_missing(table), ""}, now);
  }
  const std::uint64_t added = std::min(rows, database_.rows_added());
  batch_.rows_added += added;
  batch_.not_added += rows - added;
  if (!table.is_merging) return table_copied(0, now);
  table.merged(added < rows);
  if (added == rows) return table_copied(0, now);
  if (table.plan->compare.empty()) {
    return table.plan->conflicts_at_once ? compared(now) : table_copied(0, now);
  }
  start(Phase::comparing, now, options_.copy_timeout);
  database_.start_compare(*table.plan);
}

// What was not added: late duplicates pass, the others are set aside before the watermark passes
// them.
void Lane::compared(Clock::time_point now) {
  RouteTable& table = *batch_.copied;
  std::uint64_t conflicts = 0;
  for (const MergeConflict& conflict : database_.conflicts()) {
    if (conflict.row == 0 || conflict.row > table.indexes.size()) {
      return hold({"", "the comparison named a row that was not sent", ""}, now);
    }
    const std::uint64_t index = table.indexes[conflict.row - 1];
    if (table.route.on_conflict == OnConflict::skip && conflict.is_found) continue;
    if (!conflict.is_found) {
      if (table.route.trigger_may_skip) continue;
      return hold_route(table, {"", rows_missing(table), ""}, now);
    }
    if (is_duplicate(conflict, index)) continue;
    if (!set_conflict_aside(table, index, now)) return;
    ++conflicts;
  }
  table_copied(conflicts, now);
}

// All rows of the table but these are there.
void Lane::table_copied(std::uint64_t conflicts, Clock::time_point now) {
  const RouteTable& table = *batch_.copied;
  batch_.conflicts += conflicts;
  if (table.rows > conflicts) batch_.note_passed(table);
  copy_next(now);
}

bool Lane::is_duplicate(const MergeConflict& conflict, std::uint64_t index) {
  if (!conflict.agrees) return false;
  const spool::BlockCursor cursor = cursor_at(index);
  if (cursor.at_end()) return false;
  const spool::RecordHeader& header = cursor.event().header();
  const bool has_id = (header.flags & spool::kHasId) != 0;
  const bool has_time = header.occurred_us != header.received_us;
  return (conflict.id_agrees || !has_id) && (conflict.time_agrees || !has_time);
}

// False: the piece goes no further, as the event could not be set aside.
bool Lane::set_conflict_aside(RouteTable& table, std::uint64_t index, Clock::time_point now) {
  const Failure reason{"23505",
                       "another row has its key, by index \"" + table.plan->key_index +
                           "\" of table " + TableName::parse(table.route.table).quoted(),
                       ""};
  const spool::BlockCursor cursor = cursor_at(index);
  if (options_.aside == nullptr || cursor.at_end()) {
    hold(reason, now);
    return false;
  }
  if (database_.conflicts().size() == table.rows && brakes(table)) {
    close_route(table, reason);
    send_again(now);
    return false;
  }
  give_up_row(index, cursor.event(), reason);
  RefusedRow& row = *refused_.find(index);
  row.recorded = record(row, cursor.event());
  if (!row.recorded) hold({"", "the spool's disk does not take a set-aside record", ""}, now);
  return row.recorded;
}

// On an event of the segment; at its end if the event is gone.
spool::BlockCursor Lane::cursor_at(std::uint64_t index) {
  const spool::ReadResult found = read(index);
  const auto* block = std::get_if<spool::BlockPtr>(&found);
  if (block == nullptr || (*block)->first_index > index) return {};
  return {*block, index};
}

// The next table that has rows which were kept back; after the last one the constraints, and the
// commit.
void Lane::copy_next(Clock::time_point now) {
  const auto order = tables_.in_order_of_references();
  const auto has_rows = [&](const RouteTable* table) {
    return table->rows > 0 && table != batch_.streamed;
  };
  auto next = order.begin();
  const bool has_begun = batch_.copied != nullptr && batch_.copied != batch_.streamed;
  if (has_begun) next = std::find(order.begin(), order.end(), batch_.copied) + 1;
  next = std::find_if(next, order.end(), has_rows);
  if (next == order.end()) return piece_copied(now);
  (*next)->encoder->append_trailer((*next)->buffer);
  start_copy(**next, std::none_of(next + 1, order.end(), has_rows), now);
}

void Lane::settle(Clock::time_point now) {
  start(Phase::settling, now, options_.copy_timeout);
  database_.start_settle(take_place(true));
}

// All tables have the piece's rows: on to the next one, if there is to be one, else to the commit.
void Lane::piece_copied(Clock::time_point now) {
  const bool may_go_on =
      batch_.is_in_pieces && !batch_.must_close && batch_.pieces + 1 < kPiecesMax;
  if (may_go_on && find_next_event()) return next_piece(now);
  return batch_.is_settled ? start_commit(now) : settle(now);
}

// A check of the constraints on its own would be one more round trip in which the server rests.
void Lane::next_piece(Clock::time_point now) {
  unchecked_.emplace(UncheckedPiece{at_piece_, piece_sizes_});
  unchecked_->batch.piece_rows = batch_.piece_rows;
  unchecked_->batch.first_row = batch_.first_row;
  piece_sizes_.passed(batch_.piece_rows);
  ++batch_.pieces;
  batch_.savepoint = Savepoint::renew;
  begin_piece(now);
}

// True: what was refused is the piece before the one that was to begin.
bool Lane::return_to_unchecked() {
  if (!unchecked_) return false;
  batch_ = at_piece_ = std::move(unchecked_->batch);
  piece_sizes_ = unchecked_->sizes;
  unchecked_.reset();
  return true;
}

// The cursor stands on it. False: there is none yet.
bool Lane::find_next_event() {
  if (!cursor_.at_end()) return true;
  const spool::ReadResult found = read(segment_->next);
  const auto* block = std::get_if<spool::BlockPtr>(&found);
  if (block == nullptr) return false;
  stand_on(*block);
  return true;
}

void Lane::start_commit(Clock::time_point now) {
  if (batch_.is_in_pieces) piece_sizes_.passed(batch_.piece_rows);
  batch_.copy_time = duration_cast<microseconds>(now - batch_.began);
  batch_.commit_began = now;
  segment_->commit_sent_upto = std::max(segment_->commit_sent_upto, segment_->next);
  start(Phase::committing, now, options_.commit_timeout);
  database_.start_commit(segment_->id, segment_->watermark, segment_->next, batch_.rows_added);
}

void Lane::committed(Clock::time_point now) {
  const auto commit_time = duration_cast<microseconds>(now - batch_.commit_began);
  commit_cost_ = (commit_cost_ * 7 + commit_time) / 8;
  SegmentProgress& at = *segment_;
  const std::uint64_t set_aside = refused_.recorded_between(at.committed, at.next);
  at.watermark = at.committed = at.next;
  at.confirmed = true;
  refused_.forget_below(at.next);
  for (const RouteTable* const table : batch_.passed) options_.brakes->passed(table->place);
  if (!batch_.passed.empty()) options_.brakes->passed(RouteBrakes::kUnrouted);
  phase_ = Phase::ready;
  rows_max_now_ = std::min(options_.batch_rows_max, rows_max_now_ * 2);
  got_through();
  check_.want();
  reporter_.batch_committed(options_.index,
                            {batch_.rows - batch_.not_added, batch_.not_added - batch_.conflicts,
                             batch_.bytes, batch_.copy_time, commit_time, batch_.groups});
  if (set_aside > 0) reporter_.set_aside_committed(options_.index, set_aside);
  // They would keep the last block's memory.
  if (cursor_.at_end()) cursor_ = {};
  kept_.forget_below(at.next);
  (void)reader_.release({at.id, at.committed});
}

void Lane::got_through() {
  retry_backoff_.reset();
  hold_backoff_.reset();
  breaker_.reset();
  if (std::exchange(trouble_reported_, false)) reporter_.recovered(options_.index);
}

void Lane::fail(const Failure& failure, Clock::time_point now) {
  const bool at_commit = phase_ == Phase::committing || phase_ == Phase::confirming;
  const Action action = at_commit ? Action::retry : action_for(failure);
  if (phase_ == Phase::committing && database_.commit_may_have_left()) {
    reporter_.commit_unknown(options_.index);
  }
  switch (action) {
    case Action::row:
      return row_refused(failure, now);
    case Action::hold:
      return is_of_table() ? hold_route(*batch_.copied, failure, now) : hold(failure, now);
    case Action::halve_batch:
      if (in_rows()) {
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

// Sends the piece again in smaller ones until the row is alone, then remembers it as refused: the
// next piece sets it aside and goes on behind it.
void Lane::row_refused(const Failure& failure, Clock::time_point now) {
  const bool is_of_rows = return_to_unchecked() || in_rows();
  const bool has_row = is_of_rows && batch_.piece_rows > 0;
  if (has_row && merges_instead(failure)) return send_again(now);
  // A key that is taken where commits were lost: the rows are there and only the watermark is gone.
  const bool was_delivered = has_row && failure.sqlstate == "23505" && goes_again(batch_.first_row);
  if (!has_row || options_.aside == nullptr || was_delivered) return hold(failure, now);
  if (batch_.piece_rows == 1) return row_found(failure, now);
  piece_sizes_.refused(batch_.piece_rows, suspected_row(failure));
  send_again(now);
}

void Lane::row_found(const Failure& failure, Clock::time_point now) {
  const std::uint64_t index = batch_.first_row;
  const spool::BlockCursor cursor = cursor_at(index);
  if (cursor.at_end()) return hold(failure, now);
  RouteTable* const table = tables_.find(cursor.event());
  if (failure.sqlstate == "23503" && options_.parent_wait.count() > 0) {
    refused_.add(index, failure, spool::AsideState::waiting);
  } else if (table != nullptr && brakes(*table)) {
    close_route(*table, failure);
  } else {
    give_up_row(index, cursor.event(), failure);
  }
  piece_sizes_.found();
  send_again(now);
}

// The number of the row in its piece, from 1, that the server was at; 0: it does not say.
std::uint64_t Lane::suspected_row(const Failure& failure) const {
  const bool is_of_copy = batch_.copied != nullptr && phase_ != Phase::comparing &&
                          phase_ != Phase::settling && failure.row > 0 &&
                          failure.row <= batch_.copied->indexes.size();
  return is_of_copy ? tables_.rows_upto(batch_.copied->indexes[failure.row - 1]) : 0;
}

// After a failure that left the connection as it is and the transaction of no use: goes back to
// where the piece began, or begins the batch anew.
void Lane::send_again(Clock::time_point now) {
  if (!database_.connected()) return leave_until(now, LaneState::connecting);
  cursor_ = {};
  if (!batch_.is_in_pieces) {
    kept_.clear();
    start(Phase::rolling_back, now, options_.copy_timeout);
    return database_.start_rollback();
  }
  const Clock::time_point piece_began = batch_.piece_began;
  batch_ = at_piece_;
  batch_.give_back(now - piece_began);
  batch_.is_open = true;
  batch_.savepoint = Savepoint::return_to;
  segment_->next = batch_.piece_from;
  if (!find_next_event()) return leave_until(now, LaneState::connecting);
  begin_piece(now);
}

void Lane::rolled_back() {
  phase_ = Phase::ready;
  segment_->next = segment_->committed;
}

bool Lane::merges_instead(const Failure& failure) {
  const bool is_of_copy = phase_ != Phase::settling && batch_.copied != nullptr;
  return is_of_copy && batch_.copied->merges_instead(failure, segment_->next);
}

// What fails now is a step of the table's own.
bool Lane::is_of_table() const {
  const bool is_open = phase_ == Phase::opening && !unchecked_;
  return batch_.copied != nullptr && (is_open || (in_rows() && phase_ != Phase::settling));
}

// The server has rows of the batch, and no COMMIT yet.
bool Lane::in_rows() const {
  return phase_ == Phase::copying || phase_ == Phase::sending || phase_ == Phase::finishing ||
         phase_ == Phase::comparing || phase_ == Phase::settling;
}

bool Lane::goes_again(std::uint64_t index) const {
  return std::any_of(go_again_.begin(), go_again_.end(), [&](const spool::Position& upto) {
    return upto.segment == segment_->id && index < upto.index;
  });
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
  cursor_ = {};
  kept_.clear();
  unchecked_.reset();
  piece_sizes_.forget_suspects();
  if (segment_) {
    segment_->resolved = false;
    segment_->next = segment_->committed;
  }
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
    case Phase::sending:
    case Phase::finishing:
      return "copy";
    case Phase::comparing:
      return "compare";
    case Phase::settling:
      return "check constraints";
    case Phase::rolling_back:
      return "roll back";
    case Phase::committing:
      return "commit";
    case Phase::confirming:
      return "confirm";
    case Phase::checking:
      return "check";
  }
  std::abort();
}

}  // namespace sluice::sink
