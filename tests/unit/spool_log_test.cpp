// Which lines the spool's reports make, and that they are passed on.
#include "daemon/spool_log.hpp"

#include <catch2/catch.hpp>
#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/spool_metrics.hpp"

namespace sluice::daemon {
namespace {

using namespace std::chrono_literals;

struct Fixture {
  std::vector<std::string> lines;
  Log log{{.level = LogLevel::info,
           .format = LogFormat::journal,
           .limits = {.burst = 5, .interval = 10s, .keys_max = 16},
           .write = [this](std::string_view line) { lines.emplace_back(line); },
           .now = [] { return RateLimiter::Clock::time_point{}; }}};
  SpoolMetrics metrics;
  SpoolLog spool{log, metrics};

  [[nodiscard]] bool last_has(std::string_view text) const {
    UNSCOPED_INFO((lines.empty() ? "(no line)" : lines.back()));
    return !lines.empty() && lines.back().find(text) != std::string::npos;
  }
};

TEST_CASE("spool log: a torn tail is no alarm, and corruption is one") {
  Fixture f;
  f.spool.torn_tail({}, 17);
  CHECK(f.last_has("<6>"));
  CHECK(f.last_has("bytes=17"));
  CHECK(f.last_has("nothing that they know to be synced"));
  CHECK_FALSE(f.last_has("acked"));
  f.spool.quarantined({}, 5, 3, 4096);
  CHECK(f.last_has("<3>"));
  CHECK(f.last_has("first_index=5"));
  CHECK(f.last_has("events=3"));
  f.spool.quarantined({}, 5, std::nullopt, 4096);
  CHECK(f.last_has("events=unknown"));
}

TEST_CASE("spool log: what damage at the start may have made unknown is said and counted") {
  Fixture f;
  f.spool.damaged_at_start(
      {.segment = {}, .first_index = 40, .events = 1000, .runs = 2, .bytes = 64, .keys_kept = 3});
  REQUIRE(f.lines.size() == 1);
  CHECK(f.last_has("<3>"));
  CHECK(f.last_has("dedupe keys and producers' numbers of 1000 events may be forgotten"));
  CHECK(f.last_has("first_index=40"));
  CHECK(f.last_has("keys_kept=3"));
  CHECK(f.metrics.events_quarantined() == 0);
}

TEST_CASE("spool log: a failing disk makes a few lines, not one for each try") {
  Fixture f;
  for (int i = 0; i < 100; ++i) {
    f.spool.segment_poisoned({}, "sync", std::make_error_code(std::errc::io_error));
    f.spool.full("the disk is full");
  }
  CHECK(f.lines.size() == 10);
  CHECK(f.last_has("reason=\"the disk is full\""));
}

TEST_CASE("spool log: what is reported is counted as well") {
  Fixture f;
  f.spool.quarantined({}, 0, 7, 64);
  CHECK(f.metrics.events_quarantined() == 7);
}

TEST_CASE("spool log: a file's name cannot bring control characters in") {
  Fixture f;
  f.spool.file_set_aside("seg-\n<0>boo", "its header cannot be read");
  REQUIRE(f.lines.size() == 1);
  CHECK(f.lines[0].find('\n') == f.lines[0].size() - 1);
}

}  // namespace
}  // namespace sluice::daemon
