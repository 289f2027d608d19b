// The daemon's own log: its formats, what may never get into it, and how often.
#include "daemon/log.hpp"

#include <catch2/catch.hpp>
#include <chrono>
#include <cstdlib>
#include <regex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "daemon/printable.hpp"

namespace sluice::daemon {
namespace {

using namespace std::chrono_literals;

struct Captured {
  std::vector<std::string> lines;
  RateLimiter::Clock::time_point now{};
  Log log;

  explicit Captured(LogFormat format, LogLevel level = LogLevel::info, RateLimits limits = {})
      : log({.level = level,
             .format = format,
             .limits = limits,
             .write = [this](std::string_view line) { lines.emplace_back(line); },
             .now = [this] { return now; }}) {}
};

const std::string kTime = R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)";

TEST_CASE("log: a line of text has its time in UTC, its level and its fields") {
  Captured out(LogFormat::text);
  out.log.warning("cannot connect", {{"lane", 1}, {"reason", "no route"}, {"sqlstate", ""}});
  REQUIRE(out.lines.size() == 1);
  INFO(out.lines[0]);
  CHECK(std::regex_match(
      out.lines[0],
      std::regex(kTime + " warning: cannot connect lane=1 reason=\"no route\" sqlstate=\"\"\n")));
}

TEST_CASE("log: journald gets the priority of each level and no time") {
  Captured out(LogFormat::journal, LogLevel::debug);
  out.log.debug("a");
  out.log.info("b", {{"n", 2}});
  out.log.warning("c");
  out.log.error("d");
  CHECK(out.lines == std::vector<std::string>{"<7>a\n", "<6>b n=2\n", "<4>c\n", "<3>d\n"});
}

TEST_CASE("log: a line of JSON is one object, its strings escaped") {
  Captured out(LogFormat::json);
  out.log.error("say \"no\"", {{"path", "C:\\x"}, {"rows", 3}, {"server", "a\nb\x1b[31m\xff"}});
  REQUIRE(out.lines.size() == 1);
  const std::string& line = out.lines[0];
  INFO(line);
  CHECK(std::regex_search(line, std::regex("^\\{\"time\":\"" + kTime + "\",\"level\":\"error\",")));
  CHECK(line.ends_with(R"("message":"say \"no\"","path":"C:\\x","rows":3,)"
                       R"("server":"a\\nb\\x1b[31m\\xff"})"
                       "\n"));
}

TEST_CASE("log: lines below the level are not written") {
  Captured out(LogFormat::journal, LogLevel::warning);
  out.log.info("quiet");
  out.log.warning("loud");
  CHECK(out.lines == std::vector<std::string>{"<4>loud\n"});
}

TEST_CASE("log: spdlog's pattern is not read from messages") {
  Captured out(LogFormat::journal);
  out.log.info("%v {} {0} %%", {{"x", "{}%n"}});
  CHECK(out.lines == std::vector<std::string>{"<6>%v {} {0} %% x={}%n\n"});
}

TEST_CASE("log: control characters, directional marks and broken UTF-8 are escaped") {
  CHECK(printable("tab\tnew\nline\r\x1b[2J\x7f") == "tab\\tnew\\nline\\x0d\\x1b[2J\\x7f");
  CHECK(printable(std::string_view("\0", 1)) == "\\x00");
  CHECK(printable("\xc2\x9b") == "\\x9b");  // C1, a CSI in UTF-8
  CHECK(printable("\xe2\x80\xae\xe2\x80\xa8") == "\\u{202e}\\u{2028}");
  CHECK(printable("\xc0\xaf\xed\xa0\x80\xf5") == "\\xc0\\xaf\\xed\\xa0\\x80\\xf5");
  CHECK(printable("gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80") == "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80");
  CHECK(printable("\xe2\x82") == "\\xe2\\x82");  // cut in the middle
}

TEST_CASE("log: a long text is cut between characters and says so") {
  CHECK(printable(std::string(10, 'a'), 10) == std::string(10, 'a'));
  CHECK(printable(std::string(11, 'a'), 10) == std::string(10, 'a') + "…");
  CHECK(printable("aé"
                  "é"
                  "é",
                  2) == "aé…");
}

TEST_CASE(
    "log: a repeated line comes as a burst, then once an interval with the count of the rest") {
  Captured out(LogFormat::journal, LogLevel::info, {.burst = 2, .interval = 10s, .keys_max = 8});
  const auto say = [&](int times) {
    for (int i = 0; i < times; ++i) out.log.repeated("key", LogLevel::info, "again", {{"n", 1}});
  };
  say(5);
  CHECK(out.lines.size() == 2);
  out.now += 9s;
  say(1);
  CHECK(out.lines.size() == 2);
  out.now += 1s;
  say(3);
  REQUIRE(out.lines.size() == 3);
  CHECK(out.lines.back() == "<6>again n=1 suppressed=4\n");
  out.now += 10s;
  say(1);
  CHECK(out.lines.back() == "<6>again n=1 suppressed=2\n");
}

TEST_CASE("rate limiter: keys do not cost each other their allowance") {
  RateLimiter limiter({.burst = 1, .interval = 10s, .keys_max = 8});
  const RateLimiter::Clock::time_point now{};
  CHECK(limiter.admit("a", now) == 0u);
  CHECK(limiter.admit("a", now) == std::nullopt);
  CHECK(limiter.admit("b", now) == 0u);
}

TEST_CASE("rate limiter: keys beyond the bound share one allowance until others are quiet") {
  RateLimiter limiter({.burst = 1, .interval = 10s, .keys_max = 2});
  RateLimiter::Clock::time_point now{};
  CHECK(limiter.admit("a", now) == 0u);
  CHECK(limiter.admit("b", now) == 0u);
  CHECK(limiter.admit("c", now) == 0u);
  CHECK(limiter.admit("d", now) == std::nullopt);
  now += 20s;
  CHECK(limiter.admit("e", now) == 0u);
}

TEST_CASE("log: lines of many threads are whole") {
  Captured out(LogFormat::journal);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 100; ++i) out.log.info("abcdefgh");
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(out.lines == std::vector<std::string>(400, "<6>abcdefgh\n"));
}

TEST_CASE("log: words of the configuration are levels and formats, others are errors") {
  CHECK(log_level("info") == LogLevel::info);
  CHECK(log_level("warn") == LogLevel::warning);
  CHECK_THROWS_AS(log_level("loud"), std::invalid_argument);
  CHECK(log_format("json") == LogFormat::json);
  CHECK_THROWS_AS(log_format("xml"), std::invalid_argument);
  ::setenv("JOURNAL_STREAM", "8:1", 1);
  CHECK(log_format("text") == LogFormat::journal);
  ::unsetenv("JOURNAL_STREAM");
  CHECK(log_format("text") == LogFormat::text);
}

}  // namespace
}  // namespace sluice::daemon
