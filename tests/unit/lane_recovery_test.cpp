// The lane over restarts, clones, corruption and failovers: what it finds in the database decides.
#include <catch2/catch.hpp>
#include <random>

#include "sink/lane.hpp"
#include "tests/unit/lane_fixture.hpp"

using namespace sluice::sink;
using namespace sluice::tests;
using namespace std::chrono_literals;
using sluice::spool::Uuid;

namespace {

constexpr std::int64_t kDayUs = std::int64_t{24} * 3600 * 1'000'000;

// One lane over a spool that keeps everything, and a clock that jumps to what it waits for.
class Bench {
 public:
  explicit Bench(LaneOptions options = {}) : options_(std::move(options)) {
    options_.unix_now_us = [this] { return unix_now_us; };
    restart();
  }

  // The process ends, and another begins with what is in the files.
  void restart() {
    lane_ = {};
    database_ = std::make_unique<FakeDatabase>(server);
    lane_ = std::make_unique<Lane>(options_, std::vector{kRoute}, reader, *database_, breaker_,
                                   reporter);
  }
  // False: the lane waits for nothing but I/O and new events.
  bool turn() {
    const Lane::Wait wait = lane_->turn(now);
    if (wait.until) now = std::max(now, *wait.until);
    return wait.until.has_value();
  }
  void run(int turns) {
    for (int i = 0; i < turns; ++i) turn();
  }
  [[nodiscard]] bool drain(int turns_max = 10'000) {
    for (int i = 0; i < turns_max && !is_done(); ++i) turn();
    return is_done();
  }
  void pass(Clock::duration time) {
    for (const auto end = now + time; now < end;) {
      if (!turn()) now = end;
    }
  }
  [[nodiscard]] bool is_done() {
    return reader.events_held() == 0 &&
           (!reader.first_segment() || !reader.at(segments_ - 1).closed);
  }
  KeepingReader::Segment& add(std::uint64_t first, std::uint64_t count) {
    ++segments_;
    return reader.add(first, count);
  }
  KeepingReader::Segment& open() {
    ++segments_;
    return reader.open();
  }
  [[nodiscard]] std::ptrdiff_t times(Step step) const {
    return std::count(server.steps.begin(), server.steps.end(), step);
  }
  Numbers sorted_table() {
    Numbers table = server.table;
    std::sort(table.begin(), table.end());
    return table;
  }

  KeepingReader reader;
  FakeServer server;
  RecordingReporter reporter;
  Clock::time_point now{1h};
  std::int64_t unix_now_us = 0;

 private:
  LaneOptions options_;
  Breaker breaker_;
  std::size_t segments_ = 0;
  std::unique_ptr<FakeDatabase> database_;
  std::unique_ptr<Lane> lane_;
};

}  // namespace

TEST_CASE("lane: events lost to a corrupt block are passed over, and the watermark with them") {
  Bench bench;
  auto& segment = bench.open();
  for (std::uint64_t first : {0, 3, 6}) bench.reader.append(first, 3);
  segment.closed = true;
  const bool at_first = GENERATE(true, false);
  segment.blocks.erase(segment.blocks.begin() + (at_first ? 0 : 1));
  bench.server.fate =
      GENERATE(nth_time(Step::commit, 9, Fate::fine), nth_time(Step::commit, 1, Fate::cut_after),
               nth_time(Step::commit, 1, Fate::cut));
  REQUIRE(bench.drain());
  CHECK(bench.server.table == (at_first ? Numbers{3, 4, 5, 6, 7, 8} : Numbers{0, 1, 2, 6, 7, 8}));
  CHECK(bench.server.watermarks[segment.id] == 9);
  CHECK(bench.reporter.events_committed == 6);
  CHECK(bench.reporter.events_lost == 0);
}

TEST_CASE("lane: what cannot be read now is asked for again a second later, and nothing waits") {
  Bench bench;
  auto& segment = bench.open();
  for (std::uint64_t first : {0, 3}) bench.reader.append(first, 3);
  segment.closed = true;
  const std::uint64_t readable = GENERATE(0, 3);
  bench.reader.unreadable_from = readable;
  bench.run(40);
  CHECK(bench.server.table == numbers_upto(readable));
  const auto before = bench.now;
  REQUIRE(bench.turn());
  CHECK(bench.now - before <= 1s);
  CHECK(bench.now > before);

  bench.reader.unreadable_from = 100;
  REQUIRE(bench.drain());
  CHECK(bench.server.table == numbers_upto(6));
}

TEST_CASE("lane: what was committed before a restart is not sent again") {
  Bench bench;
  bench.add(0, 4);
  const std::uint64_t upto = GENERATE(3, 4, 7);  // 7: a backup, its newer copy went on
  bench.server.watermarks[bench.reader.at(0).id] = upto;
  bench.add(4, 2);
  REQUIRE(bench.drain());
  CHECK(bench.server.table == (upto == 3 ? Numbers{3, 4, 5} : Numbers{4, 5}));
  CHECK(bench.reporter.events_found == std::min<std::uint64_t>(4, upto));
  CHECK(bench.reporter.events_committed == (upto == 3 ? 3 : 2));
  CHECK(bench.reporter.events_lost + bench.reporter.events_resent == 0);
}

TEST_CASE("lane: a segment that ends with a commit of its own is confirmed by that") {
  Bench bench;
  bench.add(0, 4);
  bench.add(4, 4);
  REQUIRE(bench.drain());
  CHECK(bench.reader.at(0).confirmed);
  CHECK(bench.reader.at(1).confirmed);
  CHECK(bench.times(Step::confirm) == 0);
}

TEST_CASE("lane: a segment that was found committed is confirmed by a write of its own") {
  Bench bench;
  bench.add(0, 4);
  SECTION("before a restart") {
    bench.server.watermarks[bench.reader.at(0).id] = 4;
  }
  SECTION("by an unknown outcome") {
    bench.server.fate = nth_time(Step::commit, 1, Fate::cut_after);
  }
  SECTION("by a commit with a warning") {
    bench.server.fate = nth_time(Step::commit, 1, Fate::warned);
  }
  bool confirmed_early = false;
  for (int i = 0; i < 100 && !bench.reader.at(0).confirmed; ++i) {
    confirmed_early =
        confirmed_early || (bench.reader.at(0).confirmed && bench.times(Step::confirm) == 0);
    bench.turn();
  }
  CHECK(bench.reader.at(0).confirmed);
  CHECK(bench.times(Step::confirm) == 1);
  CHECK_FALSE(confirmed_early);
  CHECK(bench.server.unreplicated() == 0);
}

TEST_CASE("lane: a confirm that fails or comes with a warning confirms nothing, and is repeated") {
  const Fate fate = GENERATE(Fate::warned, Fate::refused, Fate::cut, Fate::cut_after, Fate::frozen,
                             Fate::frozen_after);
  Bench bench;
  bench.add(0, 4);
  bench.server.watermarks[bench.reader.at(0).id] = 4;
  int left = 3;
  bench.server.fate = [&](Step step) {
    if (step != Step::confirm || left == 0) return Fate::fine;
    CHECK_FALSE(bench.reader.at(0).confirmed);
    --left;
    return fate;
  };
  REQUIRE(bench.drain());
  CHECK(bench.reader.at(0).confirmed);
  CHECK(bench.times(Step::confirm) == 4);
  CHECK(bench.server.table.empty());
  CHECK(bench.reporter.unknowns == 0);
}

TEST_CASE("lane: what a failover lost of kept segments is delivered again, exactly") {
  const bool behind_pooler = GENERATE(true, false);
  for (std::size_t lost = 0; lost <= 12; ++lost) {
    CAPTURE(behind_pooler, lost);
    LaneOptions options;
    options.batch_rows_max = 2;
    Bench bench(options);
    bench.server.behind_pooler = behind_pooler;
    bench.add(0, 5);
    bench.add(5, 5);
    bench.open();
    bench.reader.append(10, 4);
    REQUIRE(bench.drain());
    REQUIRE(bench.server.table.size() == 14);
    bench.run(3);
    bench.server.fail_over(lost);
    const std::uint64_t rows_lost = 14 - bench.server.table.size();
    bench.pass(6s);
    REQUIRE(bench.drain());
    CHECK(bench.sorted_table() == numbers_upto(14));
    CHECK(bench.reporter.events_resent == rows_lost);
    CHECK(bench.reporter.events_lost == 0);
    CHECK(bench.reader.at(0).confirmed);
    CHECK(bench.reader.at(1).confirmed);
  }
}

TEST_CASE("lane: a failover while an older segment goes again is made good too") {
  Bench bench;
  bench.server.behind_pooler = true;
  bench.add(0, 5);
  bench.open();
  bench.reader.append(5, 5);
  REQUIRE(bench.drain());
  bench.run(3);
  bench.server.fail_over(4);
  bench.server.fate = nth_time(Step::commit, 1, Fate::cut);
  bench.pass(12s);
  bench.server.fail_over(2);
  bench.pass(12s);
  REQUIRE(bench.drain());
  CHECK(bench.sorted_table() == numbers_upto(10));
}

TEST_CASE("lane: kept segments are looked at every 5 s and not more often") {
  Bench bench;
  bench.add(0, 5);
  bench.open();
  REQUIRE(bench.drain());
  bench.pass(1s);
  const auto before = bench.times(Step::check);
  bench.pass(60s);
  CHECK(bench.times(Step::check) - before >= 11);
  CHECK(bench.times(Step::check) - before <= 13);
}

TEST_CASE("lane: under load too the watermarks are looked at, and no more often") {
  LaneOptions options;
  options.batch_rows_max = 1;
  Bench bench(options);
  bench.add(0, 1);
  bench.add(1, 2'000);
  for (int i = 0; i < 1'000'000 && !bench.is_done(); ++i) {
    bench.turn();
    bench.now += 1ms;
  }
  REQUIRE(bench.is_done());
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(bench.now - Clock::time_point{1h});
  CHECK(bench.times(Step::check) <= seconds.count() / 5 + 1);
  CHECK(bench.times(Step::check) >= seconds.count() / 5 - 1);
}

TEST_CASE("lane: more kept segments than one look takes are looked at in turns") {
  Bench bench;
  constexpr std::uint64_t kSegments = 1'100;
  for (std::uint64_t i = 0; i < kSegments; ++i) bench.add(i, 1);
  REQUIRE(bench.drain(100'000));
  bench.server.behind_pooler = true;
  bench.server.fail_over(bench.server.history.size());
  REQUIRE(bench.server.table.empty());
  bench.pass(30s);
  REQUIRE(bench.drain(100'000));
  CHECK(bench.sorted_table() == numbers_upto(kSegments));
}

TEST_CASE("lane: many small segments are drained without a pause between them") {
  Bench bench;
  for (std::uint64_t i = 0; i < 300; ++i) bench.add(2 * i, 2);
  // Of a third, all is committed already.
  for (std::size_t i = 0; i < 300; i += 3) bench.server.watermarks[bench.reader.at(i).id] = 2;
  const auto began = bench.now;
  REQUIRE(bench.drain());
  CHECK(bench.now == began);
  CHECK(bench.server.table.size() == 400);
  CHECK(bench.reporter.events_found == 200);
}

TEST_CASE("lane: a segment older than any watermark row is never begun anew") {
  Bench bench;
  bench.unix_now_us = 100 * kDayUs;
  auto& old = bench.add(0, 3);
  old.created_us = bench.unix_now_us - 31 * kDayUs;
  auto& young = bench.add(3, 3);
  young.created_us = bench.unix_now_us - 29 * kDayUs;
  SECTION("it is quarantined where the row is gone") {
    REQUIRE(bench.drain());
    CHECK(old.quarantined);
    CHECK(bench.server.table == Numbers{3, 4, 5});
    CHECK(bench.server.watermarks.find(old.id) == nullptr);
    CHECK(bench.reporter.events_forgotten == 3);
  }
  SECTION("it goes on where the row is there") {
    bench.server.watermarks[old.id] = 1;
    REQUIRE(bench.drain());
    CHECK_FALSE(old.quarantined);
    CHECK(bench.server.table == Numbers{1, 2, 3, 4, 5});
    CHECK(bench.reporter.events_forgotten == 0);
  }
}

TEST_CASE("lane: a spool that cannot quarantine is held, not asked for ever") {
  Bench bench;
  bench.unix_now_us = 100 * kDayUs;
  auto& old = bench.add(0, 3);
  old.created_us = bench.unix_now_us - 31 * kDayUs;
  for (int i = 0; i < 50; ++i) {
    bench.turn();
    old.quarantined = false;
  }
  CHECK(bench.reporter.states.back() == LaneState::held);
  CHECK(bench.server.table.empty());
}

TEST_CASE("lane: random histories with failovers and restarts leave each event once") {
  const std::uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  for (std::uint64_t history = 0; history < 2'000; ++history) {
    CAPTURE(history);
    std::mt19937_64 random(seed + history);
    LaneOptions options;
    options.batch_rows_max = 1 + random() % 4;
    Bench bench(options);
    bench.server.behind_pooler = random() % 2 == 0;
    bench.server.zombie_commits = [&] { return random() % 2 == 0; };
    bool calm = false;
    bench.server.fate = [&](Step) {
      constexpr const char* kStates[] = {"40001", "53300", "57P01", "42P01"};
      bench.server.refusal.sqlstate = kStates[random() % std::size(kStates)];
      return calm || random() % 10 != 0 ? Fate::fine : kFates[random() % std::size(kFates)];
    };
    std::uint64_t events = 0;
    bench.open();
    for (int i = 0; i < 120; ++i) {
      switch (random() % 16) {
        case 0:
          bench.open();
          [[fallthrough]];
        case 1: {
          const std::uint64_t count = 1 + random() % 3;
          bench.reader.append(events, count);
          events += count;
          break;
        }
        case 2:
          if (random() % 3 == 0) bench.server.fail_over(random() % 5);
          break;
        case 3:
          if (random() % 3 == 0) {
            bench.reader.restart();
            bench.restart();
            bench.open();
          }
          break;
        default:
          bench.turn();
      }
    }
    calm = true;
    bench.pass(40s);
    if (!bench.drain()) FAIL("not drained");
    if (bench.sorted_table() != numbers_upto(events)) FAIL("not each event once");
    if (bench.reporter.events_lost != 0) FAIL("events were lost");
  }
}
