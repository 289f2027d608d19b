// Which lines the lanes' trouble makes.
#include "daemon/lane_log.hpp"

#include <catch2/catch.hpp>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/lane_metrics.hpp"
#include "daemon/lane_reporters.hpp"
#include "daemon/remedy.hpp"

namespace sluice::daemon {
namespace {

using namespace std::chrono_literals;

const sink::Failure kNoTable{.sqlstate = "42P01", .message = "no table events", .column = ""};
const sink::Failure kKilled{
    .sqlstate = "57P01", .message = "terminating\nconnection", .column = ""};
const sink::Failure kRefused{.sqlstate = "", .message = "Connection refused", .column = ""};

struct Fixture {
  std::vector<std::string> lines;
  LaneLog::Clock::time_point now{};
  Log log{{.level = LogLevel::info,
           .format = LogFormat::journal,
           .limits = {.burst = 5, .interval = 10s, .keys_max = 16},
           .write = [this](std::string_view line) { lines.emplace_back(line); },
           .now = [this] { return now; }}};
  LaneLog lanes{log, 2, [this] { return now; }};

  [[nodiscard]] bool last_has(std::string_view text) const {
    UNSCOPED_INFO((lines.empty() ? "(no line)" : lines.back()));
    return !lines.empty() && lines.back().find(text) != std::string::npos;
  }
};

TEST_CASE("lane log: a missing table is one line for all lanes that says what to run") {
  Fixture f;
  f.lanes.held(0, "copy", kNoTable, 30s);
  f.lanes.held(1, "copy", kNoTable, 30s);
  f.now += 30s;
  f.lanes.held(0, "copy", kNoTable, 30s);
  REQUIRE(f.lines.size() == 1);
  CHECK(f.last_has("<3>delivery is held"));
  CHECK(f.last_has("run `sluice schema apply`"));
  CHECK(f.last_has("sqlstate=42P01"));
}

TEST_CASE("lane log: another thing to mend is a line of its own, and a long hold is told again") {
  Fixture f;
  f.lanes.held(0, "copy", kNoTable, 30s);
  f.lanes.held(0, "copy", {.sqlstate = "42501", .message = "denied", .column = ""}, 30s);
  CHECK(f.lines.size() == 2);
  CHECK(f.last_has("GRANT"));
  f.now += 10min;
  f.lanes.held(0, "copy", kNoTable, 30s);
  CHECK(f.lines.size() == 3);
}

TEST_CASE("lane log: a restart of the server is a line when it begins and one when it is over") {
  Fixture f;
  f.lanes.failed(0, "copy", kKilled, 100ms);
  f.lanes.failed(1, "commit", kKilled, 100ms);
  f.lanes.failed(0, "connect", kRefused, 200ms);
  REQUIRE(f.lines.size() == 1);
  CHECK(f.last_has("<4>delivery is interrupted"));
  CHECK(f.last_has("error=terminating\\nconnection"));

  f.now += 3s;
  f.lanes.recovered(0);
  CHECK(f.lines.size() == 1);
  f.lanes.recovered(1);
  CHECK(f.lines.size() == 2);
  CHECK(f.last_has("<6>delivery goes on after_s=3"));
}

TEST_CASE("lane log: an outage is told again each minute, with what is wrong by then") {
  Fixture f;
  f.lanes.failed(0, "copy", kKilled, 100ms);
  f.now += 59s;
  f.lanes.failed(0, "connect", kRefused, 30s);
  CHECK(f.lines.size() == 1);
  f.now += 1s;
  f.lanes.failed(0, "connect", kRefused, 30s);
  REQUIRE(f.lines.size() == 2);
  CHECK(f.last_has("Connection refused"));
}

TEST_CASE("lane log: a lane that fails and recovers without end is limited") {
  Fixture f;
  for (int i = 0; i < 1000; ++i) {
    f.lanes.failed(0, "copy", kKilled, 100ms);
    f.lanes.recovered(0);
  }
  CHECK(f.lines.size() == 10);
}

TEST_CASE("lane log: the first connection is told once, batches never") {
  Fixture f;
  f.lanes.state_changed(0, sink::LaneState::connecting);
  CHECK(f.lines.empty());
  for (int i = 0; i < 10; ++i) {
    f.lanes.state_changed(i % 2, sink::LaneState::idle);
    f.lanes.state_changed(i % 2, sink::LaneState::sending);
    f.lanes.batch_committed(0, {.events = 10,
                                .duplicates = 0,
                                .bytes = 100,
                                .copy_time = 1ms,
                                .commit_time = 1ms,
                                .groups = {}});
  }
  CHECK(f.lines == std::vector<std::string>{"<6>connected to Postgres\n"});
}

TEST_CASE("lane log: a start in trouble tells of its end and not of the connection too") {
  Fixture f;
  f.lanes.failed(0, "connect", kRefused, 100ms);
  f.lanes.recovered(0);
  f.lanes.state_changed(0, sink::LaneState::idle);
  CHECK(f.lines.size() == 2);
  CHECK(f.last_has("delivery goes on"));
}

TEST_CASE("lane log: lost commits are always told, with their range") {
  Fixture f;
  const spool::Position from{.segment = spool::Uuid{}, .index = 42};
  for (int i = 0; i < 20; ++i) f.lanes.commits_lost(0, from, 7, false);
  CHECK(f.lines.size() == 20);
  CHECK(f.last_has("<3>"));
  CHECK(
      f.last_has("are lost lane=0 segment=00000000-0000-0000-0000-000000000000 "
                 "first_index=42 events=7"));
  f.lanes.commits_lost(0, from, 7, true);
  CHECK(f.last_has("go again"));
}

TEST_CASE("lane log: an unknown outcome and what came of it are told") {
  Fixture f;
  f.lanes.commit_unknown(1);
  CHECK(f.last_has("<4>a COMMIT got no answer"));
  f.lanes.unknown_was_committed(1, 250);
  CHECK(f.last_has("lane=1 events=250"));
}

TEST_CASE("lane log: rows that are set aside are told with their place, and not each of many") {
  Fixture f;
  const sink::Failure refused{.sqlstate = "23514", .message = "violates \"small\"", .column = "n"};
  f.lanes.row_set_aside(1, {.segment = spool::Uuid{}, .index = 42}, refused);
  CHECK(f.last_has("<4>a row was not taken"));
  CHECK(f.last_has("index=42 sqlstate=23514"));
  for (std::uint64_t i = 0; i < 1'000; ++i) f.lanes.row_set_aside(1, {spool::Uuid{}, i}, refused);
  CHECK(f.lines.size() < 10);
}

TEST_CASE("lane log: a forgotten segment and what was found committed are told") {
  Fixture f;
  f.lanes.found_committed(0, 12);
  CHECK(f.last_has("<6>the database had events of the spool already"));
  CHECK(f.last_has("lane=0 events=12"));
  f.lanes.segment_forgotten(0, spool::Uuid{}, 5);
  CHECK(f.last_has("<3>"));
  CHECK(f.last_has("segment=00000000-0000-0000-0000-000000000000 events=5"));
}

TEST_CASE("lane log: every failure has a remedy, the whole code before its class") {
  CHECK(remedy_for({.sqlstate = "53100", .message = "", .column = ""}).find("disk") !=
        std::string_view::npos);
  CHECK(remedy_for({.sqlstate = "53999", .message = "", .column = ""}).find("short of") !=
        std::string_view::npos);
  CHECK(remedy_for(kRefused).find("postgres.dsn") != std::string_view::npos);
  CHECK_FALSE(remedy_for({.sqlstate = "ZZ999", .message = "", .column = ""}).empty());
}

TEST_CASE("lane reporters: each of them hears everything") {
  Fixture f;
  LaneMetrics metrics(2);
  LaneReporters both({metrics, f.lanes});
  both.state_changed(1, sink::LaneState::idle);
  both.failed(0, "copy", kKilled, 1s);
  both.held(0, "copy", kNoTable, 1s);
  both.recovered(0);
  both.batch_committed(0, {.events = 5,
                           .duplicates = 0,
                           .bytes = 1,
                           .copy_time = 1us,
                           .commit_time = 1us,
                           .groups = {}});
  both.commit_unknown(0);
  both.unknown_was_committed(0, 6);
  both.commits_lost(0, {}, 7, true);
  both.found_committed(0, 8);
  both.row_set_aside(0, {}, kNoTable);
  both.set_aside_committed(0, 9);
  both.segment_forgotten(0, {}, 10);
  CHECK(metrics.lanes_in(sink::LaneState::idle) == 1);
  CHECK(metrics.events_committed() == 11);
  CHECK(metrics.events_rewound() == 7);
  CHECK(metrics.events_found_committed() == 8);
  CHECK(metrics.events_set_aside() == 9);
  CHECK(metrics.events_forgotten() == 10);
  CHECK(f.lines.size() == 10);
}

}  // namespace
}  // namespace sluice::daemon
