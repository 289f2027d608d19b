// Lines about lanes.
#include "daemon/lane_log.hpp"

#include <algorithm>
#include <utility>

#include "daemon/remedy.hpp"

namespace sluice::daemon {
namespace {

using namespace std::chrono_literals;

// What goes away by itself is retried within 30 s, so a minute of it is worth another line.
constexpr LaneLog::Clock::duration kRetryReminder = 1min;
constexpr LaneLog::Clock::duration kHeldReminder = 10min;
// One cause for all failures that go away by themselves: while a server restarts, each lane meets
// several of them.
const std::string kRetry = "retry";

template <typename Duration>
std::int64_t whole_seconds(Duration duration) {
  return std::chrono::ceil<std::chrono::seconds>(duration).count();
}

std::string_view sqlstate_of(const sink::Failure& failure) {
  return failure.sqlstate.empty() ? std::string_view("none") : failure.sqlstate;
}

// The server is there, so without its code the lane itself found what is wrong and says it.
std::string_view held_remedy(const sink::Failure& failure) {
  return failure.sqlstate.empty() ? "what the error names" : remedy_for(failure);
}

}  // namespace

LaneLog::LaneLog(Log& log, std::size_t lanes, std::function<Clock::time_point()> now)
    : log_(log), now_(std::move(now)), in_trouble_(lanes) {}

void LaneLog::state_changed(std::size_t, sink::LaneState state) {
  const bool connected = state == sink::LaneState::idle || state == sink::LaneState::sending;
  if (!connected || trouble_since_ || std::exchange(was_connected_, true)) return;
  log_.info("connected to Postgres");
}

void LaneLog::failed(std::size_t lane, std::string_view step, const sink::Failure& failure,
                     std::chrono::milliseconds retry_in) {
  if (!is_news(lane, kRetry, kRetryReminder)) return;
  log_.repeated("lane.failed", LogLevel::warning, "delivery is interrupted and tried again",
                {{"lane", lane},
                 {"step", step},
                 {"sqlstate", sqlstate_of(failure)},
                 {"error", failure.message},
                 {"hint", remedy_for(failure)},
                 {"retry_in_ms", retry_in.count()}});
}

void LaneLog::held(std::size_t lane, std::string_view step, const sink::Failure& failure,
                   std::chrono::milliseconds retry_in) {
  if (!is_news(lane, failure.sqlstate + " " + failure.column, kHeldReminder)) return;
  log_.error("delivery is held until somebody mends this; it goes on by itself then",
             {{"mend", held_remedy(failure)},
              {"error", failure.message},
              {"sqlstate", sqlstate_of(failure)},
              {"column", failure.column},
              {"lane", lane},
              {"step", step},
              {"looks_again_in_s", whole_seconds(retry_in)}});
}

void LaneLog::recovered(std::size_t lane) {
  in_trouble_.at(lane) = false;
  if (!trouble_since_ ||
      std::find(in_trouble_.begin(), in_trouble_.end(), true) != in_trouble_.end())
    return;
  was_connected_ = true;
  log_.repeated("lane.recovered", LogLevel::info, "delivery goes on",
                {{"after_s", whole_seconds(now_() - *trouble_since_)}});
  trouble_since_.reset();
  told_.clear();
}

void LaneLog::commit_unknown(std::size_t lane) {
  log_.repeated("lane.commit_unknown", LogLevel::warning,
                "a COMMIT got no answer: its watermark will tell whether it took effect",
                {{"lane", lane}});
}

void LaneLog::unknown_was_committed(std::size_t lane, std::uint64_t events) {
  log_.repeated("lane.unknown_was_committed", LogLevel::info,
                "the COMMIT without an answer had taken effect",
                {{"lane", lane}, {"events", events}});
}

void LaneLog::found_committed(std::size_t lane, std::uint64_t events) {
  log_.repeated("lane.found_committed", LogLevel::info,
                "the database had events of the spool already: they are not sent again",
                {{"lane", lane}, {"events", events}});
}

void LaneLog::row_set_aside(std::size_t lane, const spool::Position& position,
                            const sink::Failure& failure) {
  log_.repeated("lane.row_set_aside", LogLevel::warning,
                "a row was not taken: its event is set aside, with the reason",
                {{"lane", lane},
                 {"segment", position.segment.text()},
                 {"index", position.index},
                 {"sqlstate", sqlstate_of(failure)},
                 {"error", failure.message},
                 {"column", failure.column}});
}

void LaneLog::segment_forgotten(std::size_t lane, const spool::Uuid& segment,
                                std::uint64_t events) {
  log_.error(
      "the database has no watermark any more for a segment older than 30 days, so nobody "
      "knows what of it was committed: it is in quarantine",
      {{"lane", lane}, {"segment", segment.text()}, {"events", events}});
}

// Never left out: it names the exact range.
void LaneLog::commits_lost(std::size_t lane, const spool::Position& from, std::uint64_t events,
                           bool resent) {
  log_.error(resent ? "the database forgot committed events, as after a failover: they go again"
                    : "the database forgot committed events, as after a failover: they are lost",
             {{"lane", lane},
              {"segment", from.segment.text()},
              {"first_index", from.index},
              {"events", events}});
}

bool LaneLog::is_news(std::size_t lane, const std::string& cause, Clock::duration reminder) {
  const Clock::time_point now = now_();
  in_trouble_.at(lane) = true;
  if (!trouble_since_) trouble_since_ = now;
  const auto [told, is_new] = told_.try_emplace(cause, now);
  if (!is_new && now - told->second < reminder) return false;
  told->second = now;
  return true;
}

}  // namespace sluice::daemon
