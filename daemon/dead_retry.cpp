// The daemon's own redelivery, over a queue that holds the chosen records.
#include "daemon/dead_retry.hpp"

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <utility>

#include "daemon/aside_events.hpp"
#include "daemon/host_name.hpp"
#include "daemon/parser_settings.hpp"
#include "daemon/route_list.hpp"
#include "sink/postgres_database.hpp"
#include "sink/redelivery.hpp"

namespace sluice::daemon {

namespace {

using std::chrono::milliseconds;
using Clock = sink::Redelivery::Clock;

constexpr std::uint64_t kFailuresMax = 5;

std::string text_of(const sink::Failure& failure) {
  if (failure.sqlstate.empty()) return failure.message;
  return failure.message + " (" + failure.sqlstate + ")";
}

// Records to be tried once each; what becomes of one stays in memory, as the files are the
// daemon's.
class ChosenRecords final : public spool::AsideQueue, public sink::RedeliveryReporter {
 public:
  ChosenRecords(spool::Disk& disk, const std::vector<DeadRecord>& records, const RetryTold& told)
      : disk_(disk), told_(told) {
    for (const DeadRecord& record : records) left_.emplace(record.place, &record);
    for (const DeadRecord& record : records) places_.emplace(record.text.position, record.place);
  }

  [[nodiscard]] const RetryResult& result() const { return result_; }
  // Those of which nothing was heard belong to tables that cannot be used.
  void end() {
    while (!left_.empty()) {
      const auto closed = closed_.find(left_.begin()->second->text.table);
      settle(left_.begin()->second->text.position, "held",
             closed == closed_.end() ? "not tried" : closed->second);
    }
  }

  std::vector<spool::AsideTry> to_try(const spool::AsidePlace& after, std::size_t count) override {
    std::vector<spool::AsideTry> tries;
    for (auto each = left_.upper_bound(after); each != left_.end() && tries.size() < count;
         ++each) {
      tries.push_back({each->second->text.position, each->first, spool::AsideState::dead});
    }
    return tries;
  }
  [[nodiscard]] bool has_waiting() const override { return true; }
  std::optional<spool::AsideText> read(const spool::Position& position) override {
    const auto record = left_.find(places_.at(position));
    auto text = record == left_.end() ? std::nullopt : read_whole(disk_, *record->second);
    if (!text) {
      settle(position, "unreadable", "its line cannot be read");
      return std::nullopt;
    }
    // The command asks for one try, now.
    text->state = spool::AsideState::dead;
    return text;
  }
  bool change(const spool::AsideRecord&) override { return true; }
  void delivered(const spool::Position&) override {}
  [[nodiscard]] std::vector<spool::RedeliveredCount> redelivered() const override { return {}; }
  std::uint64_t found_redelivered(const spool::Uuid&, std::span<const std::uint64_t>) override {
    return 0;
  }

  void delivered(const spool::Position& event, bool by_an_earlier_try) override {
    settle(event, by_an_earlier_try ? "found" : "delivered", "");
  }
  void refused(const spool::Position& event, spool::AsideState,
               const sink::Failure& failure) override {
    settle(event, "refused", text_of(failure));
  }
  void left_to_segment(const spool::Position& event) override {
    settle(event, "void", "its segment delivers it");
  }
  void unreadable(const spool::Position& event) override {
    settle(event, "unreadable", "its line makes no event with the settings of today");
  }
  void lost(const spool::Uuid&, std::uint64_t) override {}
  void closed(std::string_view table, const sink::Failure& failure) override {
    closed_[std::string(table)] = text_of(failure);
  }
  void failed(std::string_view step, const sink::Failure& failure, milliseconds) override {
    told_.trouble(std::string(step) + ": " + text_of(failure));
  }

 private:
  void settle(const spool::Position& event, std::string_view what, const std::string& why) {
    const auto record = left_.find(places_.at(event));
    if (record == left_.end()) return;
    ++(what == "delivered" || what == "found" ? result_.delivered : result_.left);
    told_.record(*record->second, what, why);
    left_.erase(record);
  }

  spool::Disk& disk_;
  const RetryTold& told_;
  std::map<spool::AsidePlace, const DeadRecord*> left_;
  std::map<spool::Position, spool::AsidePlace> places_;
  std::map<std::string, std::string> closed_;
  RetryResult result_;
};

void sleep_until(const sink::Redelivery::Wait& wait) {
  const auto left = wait.until ? std::chrono::ceil<milliseconds>(*wait.until - Clock::now())
                               : milliseconds(1'000);
  pollfd descriptor{wait.io.fd, 0, 0};
  if (wait.io.read) descriptor.events |= POLLIN;
  if (wait.io.write) descriptor.events |= POLLOUT;
  const auto timeout = static_cast<int>(std::clamp<milliseconds::rep>(left.count(), 0, 1'000));
  (void)poll(&descriptor, wait.io.fd < 0 ? 0 : 1, timeout);
}

}  // namespace

RetryResult retry_records(const config::Settings& settings, spool::Disk& disk,
                          const std::vector<DeadRecord>& records, const RetryTold& told) {
  ChosenRecords chosen(disk, records, told);
  AsideEvents events(parser_options(settings, 0, nullptr));
  sink::PostgresDatabase database(
      {.dsn = settings.postgres.dsn, .schema = settings.postgres.schema, .instance = "dead retry"});
  sink::RedeliveryOptions options;
  options.parent_wait = milliseconds(0);
  options.unix_now_us = [] {
    return std::chrono::duration_cast<std::chrono::microseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  };
  sink::Redelivery redelivery(
      options, route_list(settings, host_name()), chosen,
      [&](const spool::AsideText& record, spool::Chunk& chunk) {
        return events.make(record, chunk);
      },
      database, chosen);
  std::uint64_t rounds = 0;
  std::size_t left = records.size() + 1;
  while (!chosen.to_try({}, 1).empty()) {
    sleep_until(redelivery.turn(Clock::now()));
    if (redelivery.rounds_failed() >= kFailuresMax) {
      RetryResult result = chosen.result();
      result.reached_postgres = false;
      return result;
    }
    if (redelivery.rounds_done() == rounds) continue;
    // A round that settled none: only tables that cannot be used are left.
    rounds = redelivery.rounds_done();
    const std::size_t now_left = chosen.to_try({}, records.size()).size();
    if (now_left == left) break;
    left = now_left;
  }
  chosen.end();
  return chosen.result();
}

}  // namespace sluice::daemon
