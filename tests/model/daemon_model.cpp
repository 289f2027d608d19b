#include "tests/model/daemon_model.hpp"

#include <cstdio>
#include <string>

namespace sluice::model {

namespace {

const sink::Route& route() {
  static const sink::Route kRoute{.table = "events", .columns = {{"id", sink::Source::id}}};
  return kRoute;
}

// Longer than any history takes, so that every key that was acked is remembered.
constexpr std::int64_t kWindowMs = 100 * 3600 * 1000;

sink::LaneOptions lane_options(const DaemonModelOptions& options, std::size_t index) {
  sink::LaneOptions lane;
  lane.index = index;
  lane.batch_rows_max = options.batch_rows_max;
  lane.batch_delay = std::chrono::milliseconds(5);
  lane.seed = options.seed + index;
  return lane;
}

spool::DiskSpoolOptions spool_options(const DaemonModelOptions& options) {
  spool::DiskSpoolOptions spool = options.spool;
  spool.seed = options.seed;
  spool.dedupe_window = std::chrono::milliseconds(kWindowMs);
  return spool;
}

}  // namespace

DaemonModel::LaneModel::LaneModel(const sink::LaneOptions& options, spool::SpoolReader& spool,
                                  World& world, sink::Breaker& breaker,
                                  sink::LaneReporter& reporter)
    : reader(spool, world.book),
      database(world.server),
      lane(options, {route()}, reader, database, breaker, reporter) {}

DaemonModel::DaemonModel(const DaemonModelOptions& options, tests::FakeDisk& disk, World& world,
                         const spool::SpoolTime& now)
    : world_(world),
      budget_(1 << 20),
      producers_(100),
      commits_(options.spool.lanes),
      spool_(
          spool_options(options), disk, producers_, *this,
          {.on_released = [this](spool::LaneIndex lane,
                                 const spool::Position& upto) { commits_.committed(lane, upto); }},
          now),
      writer_(spool_, world.book),
      dedupe_({.window_ms = kWindowMs, .keys_max = 4096}),
      ids_(options.seed),
      queue_([] {}),
      journal_({.sync_delay = options.sync_delay},
               {queue_, dedupe_, ids_, writer_, producers_, commits_, counters_}),
      aside_({.sync = options.spool.durability == spool::Durability::power}, disk),
      unix_now_us_(now.unix_us) {
  spool_.recovered_keys(0, 4096, [&](const spool::RememberedKey& key) {
    dedupe_.restore({key.hash[0], key.hash[1]}, (now.unix_us - key.written_us) / 1000,
                    now.steady_ms);
  });
  sink::LaneReporter& reporter = *this;
  for (std::size_t i = 0; i < options.spool.lanes; ++i) {
    sink::LaneOptions lane = lane_options(options, i);
    lane.unix_now_us = [this] { return unix_now_us_; };
    lane.aside = &aside_;
    lanes_.push_back(
        std::make_unique<LaneModel>(lane, spool_.reader(i), world, breaker_, reporter));
  }
}

DaemonModel::~DaemonModel() {
  world_.tally.add(Letter::duplicate, counters_.duplicates);
}

ingest::Journal::Turn DaemonModel::journal_turn(const spool::SpoolTime& now) {
  return journal_.turn(now);
}

sink::Lane::Wait DaemonModel::lane_turn(std::size_t lane, const spool::SpoolTime& now) {
  unix_now_us_ = now.unix_us;
  const sink::Clock::time_point at{std::chrono::milliseconds(now.steady_ms)};
  return lanes_[lane]->lane.turn(at);
}

void DaemonModel::say(const std::string& text) const {
  if (world_.trace) std::printf("    %s\n", text.c_str());
}

void DaemonModel::torn_tail(const spool::Uuid& segment, std::uint64_t bytes) {
  say("torn tail of " + std::to_string(bytes) + " bytes in " + segment.text());
  world_.tally.add(Letter::torn_tail);
}

// No history damages what was synced, so nothing may look as if it were.
void DaemonModel::quarantined(const spool::Uuid& segment, std::uint64_t first_index,
                              std::optional<std::uint64_t> events, std::uint64_t bytes) {
  throw Broken("quarantined " + std::to_string(bytes) + " bytes of " + segment.text() +
               " at index " + std::to_string(first_index) + " with " +
               std::to_string(events.value_or(0)) +
               " events on a disk that lost nothing that was synced");
}

void DaemonModel::damaged_at_start(const spool::StartDamage& damage) {
  throw Broken("found " + std::to_string(damage.bytes) + " bad bytes in " + damage.segment.text() +
               " at start, on a disk that lost nothing that was synced");
}

void DaemonModel::read_failed(const spool::Uuid& segment, std::uint64_t offset,
                              std::error_code error) {
  say("cannot read " + segment.text() + " at " + std::to_string(offset) + ": " + error.message());
}

void DaemonModel::file_set_aside(const std::string& name, std::string_view reason) {
  if (reason.find("cannot be read") != std::string_view::npos) {
    say(name + ": " + std::string(reason));
    has_unread_ = true;
    return world_.tally.add(Letter::segment_unread);
  }
  throw Broken("file " + name + " set aside: " + std::string(reason));
}

// Neither a power cut nor a disk that fails may leave a hole.
void DaemonModel::segments_missing(std::uint64_t count) {
  throw Broken(std::to_string(count) + " segments missing, and nobody took them");
}

void DaemonModel::segment_poisoned(const spool::Uuid& segment, std::string_view step,
                                   std::error_code error) {
  say("poisoned by " + std::string(step) + ", " + error.message() + ": " + segment.text());
  world_.tally.add(Letter::segment_poisoned);
  if (step == "sync at start") world_.tally.add(Letter::tail_in_doubt);
}

void DaemonModel::full(std::string_view reason) {
  say("full: " + std::string(reason));
  world_.tally.add(Letter::spool_full);
  world_.was_full = true;
}

void DaemonModel::keys_unwritten(const std::string& name, std::string_view reason) {
  say("keys unwritten: " + name + ", " + std::string(reason));
  world_.tally.add(Letter::keys_unwritten);
}

void DaemonModel::keys_lost(const std::string& name, std::string_view reason) {
  say("keys lost: " + name + ", " + std::string(reason));
}

void DaemonModel::failed(std::size_t lane, std::string_view step, const sink::Failure& failure,
                         std::chrono::milliseconds retry_in) {
  say("lane " + std::to_string(lane) + ": " + std::string(step) + " failed with '" +
      failure.sqlstate + "' " + failure.message + ", again in " + std::to_string(retry_in.count()) +
      " ms");
}

void DaemonModel::held(std::size_t lane, std::string_view step, const sink::Failure& failure,
                       std::chrono::milliseconds retry_in) {
  failed(lane, step, failure, retry_in);
}

void DaemonModel::commit_unknown(std::size_t) {
  world_.tally.add(Letter::unknown_commit);
}

void DaemonModel::unknown_was_committed(std::size_t, std::uint64_t) {
  world_.tally.add(Letter::unknown_was_committed);
}

void DaemonModel::row_set_aside(std::size_t, const spool::Position&, const sink::Failure&) {
  world_.tally.add(Letter::row_set_aside);
}

void DaemonModel::segment_forgotten(std::size_t, const spool::Uuid&, std::uint64_t) {
  throw Broken("a segment was taken for forgotten by the database");
}

void DaemonModel::commits_lost(std::size_t, const spool::Position& from, std::uint64_t events,
                               bool resent) {
  world_.tally.add(Letter::commits_lost);
  if (!resent && !world_.was_full) {
    throw Broken(std::to_string(events) + " events from index " + std::to_string(from.index) +
                 " on are gone although their segment had to be kept");
  }
  if (resent) world_.tally.add(Letter::events_rewound, events);
}

}  // namespace sluice::model
