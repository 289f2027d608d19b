// The lane against a model of the server: every event becomes a row once, whatever fails when.
#include "sink/lane.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <numeric>
#include <random>

#include "spool/memory_spool.hpp"
#include "tests/unit/event_fixture.hpp"
#include "tests/unit/fake_database.hpp"
#include "tests/unit/lane_fixture.hpp"

using namespace sluice::sink;
using namespace sluice::tests;
using namespace std::chrono_literals;
using sluice::spool::ByteBudget;
using sluice::spool::MemorySpool;
using sluice::spool::Position;
using sluice::spool::ReadResult;
using sluice::spool::SegmentToDeliver;
using sluice::spool::SpoolReader;
using sluice::spool::Uuid;

namespace {

// A reader that keeps what is released, as a spool does that can send again after a failover.
class RetainingReader final : public SpoolReader {
 public:
  explicit RetainingReader(SpoolReader& reader) : reader_(reader) {}
  std::optional<SegmentToDeliver> first_segment() override { return reader_.first_segment(); }
  ReadResult read(const Position& position) override { return reader_.read(position); }
  std::uint64_t release(const Position& upto) override {
    return upto.index - std::exchange(released_index, upto.index);
  }
  std::uint64_t events_held() const override { return reader_.events_held() - released_index; }
  void confirm(const Uuid& segment) override { reader_.confirm(segment); }
  std::vector<Position> delivered() const override { return reader_.delivered(); }
  std::uint64_t rewind(const Position& position) override {
    return std::exchange(released_index, position.index) - position.index;
  }
  std::uint64_t quarantine(const Uuid& segment) override { return reader_.quarantine(segment); }

  std::uint64_t released_index = 0;

 private:
  SpoolReader& reader_;
};

LaneOptions lane_options(std::size_t index) {
  LaneOptions options;
  options.index = index;
  options.seed = index;
  return options;
}

// Lanes over one spool and one server, and a clock that jumps to what they wait for.
class Bench {
 public:
  explicit Bench(std::size_t lanes, sluice::spool::MemorySpoolOptions spool_options = {},
                 LaneOptions options = {})
      : spool_(with_lanes(spool_options, lanes), {}) {
    for (std::size_t i = 0; i < lanes; ++i) {
      options.index = i;
      options.seed = i;
      databases_.push_back(std::make_unique<FakeDatabase>(server));
      lanes_.push_back(std::make_unique<Lane>(options, std::vector{kRoute}, spool_.reader(i),
                                              *databases_[i], breaker, reporter));
    }
  }

  void append(std::size_t lane, std::uint64_t first, std::uint64_t count) {
    append_block(spool_, lane, chunk_of(budget_, first, count));
  }

  // One turn of each lane, then the clock goes to the first moment that any waits for.
  void turn() {
    std::optional<Clock::time_point> until;
    for (const auto& lane : lanes_) {
      const Lane::Wait wait = lane->turn(now);
      if (wait.until && (!until || *wait.until < *until)) until = wait.until;
    }
    if (until) now = std::max(now, *until);
  }
  // False if the lanes did not get there in a great many turns.
  [[nodiscard]] bool drain(int turns_max = 10'000) {
    for (int i = 0; i < turns_max && spool_.events_held() != 0; ++i) turn();
    return spool_.events_held() == 0;
  }
  void run(int turns) {
    for (int i = 0; i < turns; ++i) turn();
  }

  Lane& lane(std::size_t index) { return *lanes_[index]; }
  FakeDatabase& database(std::size_t index) { return *databases_[index]; }
  MemorySpool& spool() { return spool_; }

  FakeServer server;
  RecordingReporter reporter;
  Breaker breaker;
  Clock::time_point now{1h};

 private:
  static sluice::spool::MemorySpoolOptions with_lanes(sluice::spool::MemorySpoolOptions options,
                                                      std::size_t lanes) {
    options.lanes = lanes;
    return options;
  }

  ByteBudget budget_{1'000'000'000};
  MemorySpool spool_;
  std::vector<std::unique_ptr<FakeDatabase>> databases_;
  std::vector<std::unique_ptr<Lane>> lanes_;
};

bool was_held(const RecordingReporter& reporter) {
  return std::count(reporter.states.begin(), reporter.states.end(), LaneState::held) > 0;
}

}  // namespace

TEST_CASE("lane: events become rows in their order, and the watermark follows") {
  Bench bench(1);
  bench.append(0, 0, 3);
  bench.append(0, 3, 4);
  REQUIRE(bench.drain());
  CHECK(bench.server.table == numbers_upto(7));
  CHECK(bench.server.watermarks.begin()->second == 7);
  CHECK(bench.reporter.events_committed == 7);
  CHECK(bench.reporter.events_in_groups == 7);
  CHECK(bench.reporter.failures.empty());
  bench.run(2);
  CHECK(bench.reporter.states ==
        std::vector{LaneState::connecting, LaneState::sending, LaneState::idle});
}

TEST_CASE("lane: with nothing to send it connects, rests and waits for nothing") {
  Bench bench(1);
  bench.run(10);
  CHECK(bench.server.steps == std::vector{Step::connect, Step::describe});
  const Lane::Wait wait = bench.lane(0).turn(bench.now);
  CHECK_FALSE(wait.until);
  CHECK(bench.reporter.states.back() == LaneState::idle);
}

TEST_CASE("lane: a connection that the server closes while the lane rests is replaced at once") {
  Bench bench(1);
  bench.append(0, 0, 2);
  REQUIRE(bench.drain());
  bench.run(2);
  CHECK(bench.lane(0).turn(bench.now).io.read);
  bench.database(0).closed_by_server = true;
  const auto before = bench.now;
  bench.run(1);
  for (int i = 0; i < 10 && bench.reporter.states.back() != LaneState::idle; ++i) bench.turn();
  CHECK(std::count(bench.server.steps.begin(), bench.server.steps.end(), Step::connect) == 2);
  CHECK(bench.reporter.states.back() == LaneState::idle);
  CHECK(bench.now == before);
  bench.append(0, 2, 2);
  REQUIRE(bench.drain());
  CHECK(bench.server.table == numbers_upto(4));
  CHECK(bench.reporter.failures.empty());
}

TEST_CASE("lane: any fate of any step leaves each event in the table once and in order") {
  for (const Step step : kSteps) {
    for (const Fate fate : kFates) {
      for (const bool zombie_commits : {false, true}) {
        for (int nth = 1; nth <= 2; ++nth) {
          LaneOptions options;
          options.batch_rows_max = 3;
          Bench bench(1, {}, options);
          bench.server.fate = nth_time(step, nth, fate);
          bench.server.zombie_commits = [=] { return zombie_commits; };
          bench.append(0, 0, 4);
          bench.append(0, 4, 4);
          CAPTURE(static_cast<int>(step), static_cast<int>(fate), zombie_commits, nth);
          REQUIRE(bench.drain());
          CHECK(bench.server.table == numbers_upto(8));
          CHECK(bench.server.watermarks.begin()->second == 8);
          CHECK(bench.reporter.events_committed == 8);
          CHECK(bench.reporter.events_lost == 0);
        }
      }
    }
  }
}

TEST_CASE("lane: any two fates in a row leave each event in the table once and in order") {
  for (const Fate first : kFates) {
    for (const Fate second : kFates) {
      for (const Step step : kSteps) {
        Bench bench(1);
        auto first_fate = nth_time(Step::commit, 1, first);
        auto second_fate = nth_time(step, 2, second);
        bench.server.fate = [&](Step started) {
          const Fate fate = first_fate(started);
          const Fate other = second_fate(started);
          return fate == Fate::fine ? other : fate;
        };
        bench.append(0, 0, 5);
        CAPTURE(static_cast<int>(first), static_cast<int>(second), static_cast<int>(step));
        REQUIRE(bench.drain());
        CHECK(bench.server.table == numbers_upto(5));
      }
    }
  }
}

TEST_CASE("lane: an unknown outcome that was committed is not sent again") {
  const Fate fate = GENERATE(Fate::cut_after, Fate::frozen_after);
  Bench bench(1);
  bench.server.fate = nth_time(Step::commit, 1, fate);
  bench.append(0, 0, 5);
  REQUIRE(bench.drain());
  CHECK(bench.reporter.unknowns == 1);
  CHECK(bench.reporter.events_committed == 5);
  CHECK(bench.server.batches == Numbers{5});
  CHECK(std::count(bench.server.steps.begin(), bench.server.steps.end(), Step::copy) == 1);
}

TEST_CASE("lane: an unknown outcome that was not committed is sent again after R") {
  const Fate fate = GENERATE(Fate::cut, Fate::frozen);
  Bench bench(1);
  bench.server.fate = nth_time(Step::commit, 1, fate);
  bench.append(0, 0, 5);
  REQUIRE(bench.drain());
  CHECK(bench.reporter.unknowns == 1);
  CHECK(bench.server.table == numbers_upto(5));
  CHECK(bench.server.steps == std::vector{Step::connect, Step::describe, Step::resolve, Step::copy,
                                          Step::finish, Step::commit, Step::connect, Step::describe,
                                          Step::resolve, Step::copy, Step::finish, Step::commit});
}

TEST_CASE("lane: a commit that arrives after R has read the watermark is not doubled") {
  const int steps_before = GENERATE(1, 2, 3, 4, 5, 6, 7);
  Bench bench(1);
  bench.server.fate = nth_time(Step::commit, 1, Fate::on_the_way);
  int steps = 0;
  bench.server.zombie_commits = [&] { return ++steps >= steps_before; };
  bench.append(0, 0, 5);
  REQUIRE(bench.drain());
  CAPTURE(steps_before);
  CHECK(bench.server.table == numbers_upto(5));
  CHECK(bench.reporter.events_committed == 5);
}

TEST_CASE("lane: an error that answers COMMIT is no unknown outcome") {
  Bench bench(1);
  bench.server.fate = nth_time(Step::commit, 1, Fate::refused);
  bench.append(0, 0, 5);
  REQUIRE(bench.drain());
  CHECK(bench.reporter.unknowns == 0);
  CHECK(bench.reporter.failures.size() == 1);
  CHECK(bench.reporter.failures[0].step == "commit");
  CHECK(bench.server.table == numbers_upto(5));
}

TEST_CASE("lane: an error in W3 asks for R, whatever its SQLSTATE says") {
  Bench bench(1);
  bench.server.refusal = {"42501", "", ""};
  bench.server.fate = nth_time(Step::commit, 1, Fate::refused);
  bench.append(0, 0, 5);
  REQUIRE(bench.drain());
  CHECK(bench.reporter.holds.empty());
  CHECK(bench.server.table == numbers_upto(5));
}

TEST_CASE("lane: every step has its deadline, and the connection goes when it passes") {
  struct Deadline {
    Step step;
    std::chrono::milliseconds timeout;
  };
  const Deadline c =
      GENERATE(Deadline{Step::connect, 5s}, Deadline{Step::describe, 5s},
               Deadline{Step::resolve, 15s}, Deadline{Step::copy, 30s}, Deadline{Step::rows, 30s},
               Deadline{Step::finish, 30s}, Deadline{Step::commit, 60s});
  CAPTURE(static_cast<int>(c.step));
  Bench bench(1);
  bench.server.fate = nth_time(c.step, 1, Fate::frozen);
  bench.append(0, 0, 1);
  const Clock::time_point began = bench.now;
  for (int i = 0; i < 100 && bench.reporter.failures.empty(); ++i) bench.turn();
  REQUIRE(bench.reporter.failures.size() == 1);
  CHECK(bench.reporter.failures[0].failure.sqlstate.empty());
  CHECK(bench.now - began >= c.timeout);
  CHECK(bench.now - began <= c.timeout + 1s);
  CHECK(bench.database(0).disconnects == 1);
}

TEST_CASE("lane: rows that go slowly but do go meet no deadline") {
  LaneOptions options;
  options.batch_delay = 2h;
  Bench bench(1, {}, options);
  bool slow = false;
  bench.server.fate = [&](Step step) {
    return step == Step::rows && (slow = !slow) ? Fate::slow : Fate::fine;
  };
  for (std::uint64_t i = 0; i < 40; ++i) {
    bench.append(0, i, 1);
    (void)bench.lane(0).turn(bench.now);
    if (i > 10) bench.now += 20s;
  }
  CHECK(bench.reporter.failures.empty());
  REQUIRE(bench.drain());
  CHECK(bench.server.table == numbers_upto(40));
  CHECK(bench.server.batches == Numbers{40});
}

TEST_CASE("lane: a COPY that took fewer rows is held, and goes on when the trigger is gone") {
  Bench bench(1);
  bench.server.rows_swallowed = 1;
  bench.append(0, 0, 5);
  bench.run(50);
  CHECK(bench.server.table.empty());
  REQUIRE_FALSE(bench.reporter.holds.empty());
  CHECK(was_held(bench.reporter));
  CHECK(bench.reporter.unknowns == 0);
  bench.server.rows_swallowed = 0;
  REQUIRE(bench.drain());
  CHECK(bench.server.table == numbers_upto(5));
  CHECK(bench.reporter.recoveries == 1);
}

TEST_CASE("lane: a configuration error holds, is looked at at least every 30 s, and recovers") {
  const std::string sqlstate =
      GENERATE("28P01", "3D000", "3F000", "42P01", "42501", "42703", "0A000", "XX000");
  const Step step = GENERATE(Step::connect, Step::resolve, Step::copy, Step::finish);
  Bench bench(1);
  bool broken = true;
  bench.server.refusal = {sqlstate, "", ""};
  bench.server.fate = [&](Step started) {
    return broken && started == step ? Fate::refused : Fate::fine;
  };
  bench.append(0, 0, 5);
  bench.run(500);
  CHECK(bench.reporter.failures.empty());
  REQUIRE(bench.reporter.holds.size() > 10);
  for (const auto& hold : bench.reporter.holds) CHECK(hold.delay <= 30s);
  CHECK(bench.reporter.recoveries == 0);
  CHECK(bench.server.table.empty());
  broken = false;
  REQUIRE(bench.drain());
  CHECK(bench.server.table == numbers_upto(5));
  CHECK(bench.reporter.recoveries == 1);
}

TEST_CASE("lane: a table without the route's columns, or with other types, holds") {
  Bench bench(1);
  const std::vector<CatalogColumn> wrong =
      GENERATE(std::vector<CatalogColumn>{},
               std::vector<CatalogColumn>{{"id", "interval", std::nullopt, "interval"}},
               std::vector<CatalogColumn>{{"id", "bigint", ColumnType::int8}});
  bench.server.columns = wrong;
  bench.append(0, 0, 5);
  bench.run(20);
  REQUIRE_FALSE(bench.reporter.holds.empty());
  CHECK(bench.reporter.holds[0].step == "look at the table");
  CHECK(bench.reporter.holds[0].failure.column == "id");
  bench.server.columns = {{"id", "uuid", ColumnType::uuid}};
  REQUIRE(bench.drain());
  CHECK(bench.server.table == numbers_upto(5));
}

TEST_CASE("lane: a refused row holds its batch, and nothing of it is dropped") {
  const Step step = GENERATE(Step::rows, Step::finish);
  Bench bench(1);
  bool broken = true;
  bench.server.refusal = {"23514", "", ""};
  bench.server.fate = [&](Step started) {
    return broken && started == step ? Fate::refused : Fate::fine;
  };
  bench.append(0, 0, 5);
  bench.run(100);
  CHECK(was_held(bench.reporter));
  CHECK(bench.server.table.empty());
  CHECK(bench.spool().events_held() == 5);
  broken = false;
  REQUIRE(bench.drain());
  CHECK(bench.server.table == numbers_upto(5));
}

TEST_CASE("lane: a batch closes by its rows") {
  LaneOptions options;
  options.batch_rows_max = 4;
  options.batch_delay = 1h;
  Bench bench(1, {}, options);
  bench.append(0, 0, 9);
  bench.run(30);
  CHECK(bench.server.batches == Numbers{4, 4, 1});
}

TEST_CASE("lane: a batch closes by its bytes") {
  LaneOptions options;
  options.batch_bytes_max = 100;  // five rows of 22 bytes pass it
  options.batch_delay = 1h;
  Bench bench(1, {}, options);
  bench.append(0, 0, 10);
  for (int i = 0; i < 20; ++i) (void)bench.lane(0).turn(bench.now);
  CHECK(bench.server.batches == Numbers{5, 5});
}

TEST_CASE("lane: a batch waits for more until its delay has passed, and not longer") {
  Bench bench(1);
  bench.append(0, 0, 1);
  const Clock::time_point began = bench.now;
  Lane& lane = bench.lane(0);
  Lane::Wait wait;
  for (int i = 0; i < 10; ++i) wait = lane.turn(began);
  CHECK(bench.server.table.empty());
  REQUIRE(wait.until);
  CHECK(*wait.until == began + 20ms);
  CHECK(wait.io.read);

  bench.append(0, 1, 1);
  for (int i = 0; i < 6; ++i) (void)lane.turn(began + 19ms);
  CHECK(bench.server.table.empty());
  for (int i = 0; i < 3; ++i) (void)lane.turn(began + 20ms);
  CHECK(bench.server.table == numbers_upto(2));
}

TEST_CASE("lane: a batch of nothing but bulk goes on for a second delay while there is more") {
  LaneOptions options;
  options.batch_rows_max = 1'000'000;
  Bench bench(1, {}, options);
  bench.append(0, 0, 200'000);
  const Clock::time_point began = bench.now;
  Lane& lane = bench.lane(0);
  while (bench.server.steps.empty() || bench.server.steps.back() != Step::copy) {
    (void)lane.turn(began);
  }
  (void)lane.turn(began + 20ms);
  (void)lane.turn(began + 39ms);
  CHECK(bench.server.steps.back() == Step::copy);
  (void)lane.turn(began + 40ms);
  CHECK(bench.server.steps.back() == Step::finish);
}

TEST_CASE("lane: bulk with nothing behind it waits for one delay") {
  Bench bench(1);
  bench.append(0, 0, 300);
  const Clock::time_point began = bench.now;
  Lane::Wait wait;
  for (int i = 0; i < 10; ++i) wait = bench.lane(0).turn(began);
  CHECK(wait.until == began + 20ms);
}

TEST_CASE(
    "lane: a quiet connection's chunk among bulk ends the batch after a quarter of the delay") {
  Bench bench(1);
  bench.append(0, 0, 300);
  bench.append(0, 300, 1);
  const Clock::time_point began = bench.now;
  Lane::Wait wait;
  for (int i = 0; i < 10; ++i) wait = bench.lane(0).turn(began);
  CHECK(wait.until == began + 5ms);
  for (int i = 0; i < 3; ++i) (void)bench.lane(0).turn(began + 5ms);
  CHECK(bench.server.table == numbers_upto(301));
}

TEST_CASE("lane: once it should finish soon, it does not wait for more") {
  Bench bench(1);
  bench.append(0, 0, 1);
  bench.lane(0).finish_soon();
  for (int i = 0; i < 10; ++i) (void)bench.lane(0).turn(bench.now);
  CHECK(bench.server.table == numbers_upto(1));
}

TEST_CASE("lane: a sealed segment ends its batch, and the next has its own watermark") {
  LaneOptions options;
  options.batch_delay = 1h;
  Bench bench(1, {.segment_bytes = 1}, options);
  for (std::uint64_t i = 0; i < 4; ++i) bench.append(0, i * 2, 2);
  bench.run(100);
  CHECK(bench.server.batches == Numbers{2, 2, 2, 2});
  CHECK(bench.server.table == numbers_upto(8));
  CHECK(bench.server.watermarks.size() == 4);
}

TEST_CASE("lane: 57014 halves the batch, which grows again") {
  LaneOptions options;
  options.batch_rows_max = 8;
  Bench bench(1, {}, options);
  bench.server.refusal = {"57014", "", ""};
  int left = 2;
  bench.server.fate = [&](Step step) {
    return step == Step::finish && left-- > 0 ? Fate::refused : Fate::fine;
  };
  bench.append(0, 0, 30);
  REQUIRE(bench.drain());
  CHECK(bench.server.batches == Numbers{2, 4, 8, 8, 8});
}

TEST_CASE("lane: 57014 before any row was sent leaves the batch's size") {
  LaneOptions options;
  options.batch_rows_max = 8;
  Bench bench(1, {}, options);
  bench.server.refusal = {"57014", "", ""};
  bench.server.fate = nth_time(Step::copy, 1, Fate::refused);
  bench.append(0, 0, 8);
  REQUIRE(bench.drain());
  CHECK(bench.server.batches == Numbers{8});
}

TEST_CASE("lane: a server that takes no writes is left at once, then with patience") {
  Bench bench(1);
  bench.server.refusal = {"25006", "", ""};
  int left = 3;
  bench.server.fate = [&](Step step) {
    return step == Step::resolve && left-- > 0 ? Fate::refused : Fate::fine;
  };
  bench.append(0, 0, 1);
  REQUIRE(bench.drain());
  REQUIRE(bench.reporter.failures.size() == 3);
  CHECK(bench.reporter.failures[0].delay == 0ms);
  CHECK(bench.reporter.failures[1].delay >= 100ms);
  CHECK(bench.reporter.failures[2].delay >= 100ms);
  CHECK(bench.server.table == numbers_upto(1));
}

TEST_CASE("lane: failures wait longer and longer, up to 30 s, until a commit") {
  Bench bench(1);
  bool down = true;
  bench.server.fate = [&](Step step) {
    return down && step == Step::connect ? Fate::cut : Fate::fine;
  };
  bench.append(0, 0, 1);
  bench.run(200);
  const auto& failures = bench.reporter.failures;
  REQUIRE(failures.size() > 30);
  CHECK(failures[0].delay <= 300ms);
  CHECK(std::any_of(failures.begin(), failures.end(), [](const auto& f) { return f.delay > 9s; }));
  CHECK(std::all_of(failures.begin(), failures.end(),
                    [](const auto& f) { return f.delay >= 100ms && f.delay <= 30s; }));
  CHECK(bench.reporter.recoveries == 0);
  down = false;
  REQUIRE(bench.drain());
  CHECK(bench.reporter.recoveries == 1);
  bench.run(2);
  CHECK(bench.reporter.recoveries == 1);
}

TEST_CASE("lane: after an outage one lane tries with a small batch, the other waits for it") {
  Bench bench(2, {}, {});
  bool down = true;
  bench.server.fate = [&](Step step) {
    return down && step == Step::connect ? Fate::cut : Fate::fine;
  };
  bench.append(0, 0, 1000);
  bench.append(1, 1000, 1000);
  bench.run(50);
  down = false;
  REQUIRE(bench.drain());
  REQUIRE(bench.server.batches.size() == 3);
  CHECK(bench.server.batches[0] == 100);
  Numbers table = bench.server.table;
  std::sort(table.begin(), table.end());
  CHECK(table == numbers_upto(2000));
}

TEST_CASE("lane: when one lane gets through after an outage, the others do not wait on") {
  Bench bench(2);
  bench.server.fate = [](Step step) { return step == Step::connect ? Fate::cut : Fate::fine; };
  bench.append(0, 0, 3);
  bench.append(1, 3, 3);
  const Clock::time_point began = bench.now;
  while (bench.now < began + 5min) bench.turn();  // both wait up to 30 s by now
  bench.server.fate = [](Step) { return Fate::fine; };
  while (bench.server.table.empty()) bench.turn();
  const Clock::time_point first_through = bench.now;
  REQUIRE(bench.drain());
  CHECK(bench.now - first_through <= 1s);
  CHECK(bench.server.table.size() == 6);
}

TEST_CASE("lane: a lane with trouble of its own does not keep the others from trying") {
  const std::size_t locked = GENERATE(0, 1);  // one of the two is the first to try
  Bench bench(2);
  int left = 2;
  bench.server.fate = [&](Step step) {
    return step == Step::connect && left-- > 0 ? Fate::cut : Fate::fine;
  };
  bench.append(0, 0, 1);
  bench.append(1, 1, 1);
  bench.server.locked.insert(bench.spool().reader(locked).first_segment()->id);
  const Clock::time_point began = bench.now;
  while (bench.server.table.empty() && bench.now - began < 10s) bench.turn();
  CHECK(bench.server.table == Numbers{1 - locked});
  bench.server.locked.clear();
  REQUIRE(bench.drain());
  CHECK(bench.server.table.size() == 2);
}

TEST_CASE("lane: commits that a failover lost are sent again while they are kept") {
  ByteBudget budget(1'000'000);
  MemorySpool spool({.lanes = 1}, {});
  RetainingReader reader(spool.reader(0));
  FakeServer server;
  FakeDatabase database(server);
  RecordingReporter reporter;
  Breaker breaker;
  Lane lane(lane_options(0), {kRoute}, reader, database, breaker, reporter);
  Clock::time_point now{1h};
  const auto drain = [&] {
    for (int i = 0; i < 1'000 && reader.events_held() != 0; ++i) {
      const Lane::Wait wait = lane.turn(now);
      if (wait.until) now = std::max(now, *wait.until);
    }
  };
  append_block(spool, 0, chunk_of(budget, 0, 6));
  drain();
  REQUIRE(server.table == numbers_upto(6));

  // The new primary has two of the six rows.
  server.table.resize(2);
  server.watermarks.begin()->second = 2;
  append_block(spool, 0, chunk_of(budget, 6, 2));
  drain();
  CHECK(server.table == numbers_upto(8));
  CHECK(server.watermarks.begin()->second == 8);
  CHECK(reporter.events_resent == 4);
  CHECK(reporter.events_lost == 0);
}

TEST_CASE("lane: lost commits whose events are gone are told once, and it goes on") {
  Bench bench(1);
  bench.append(0, 0, 6);
  REQUIRE(bench.drain());
  bench.server.table.resize(2);
  bench.server.watermarks.begin()->second = 2;
  // R is asked several times before the next commit.
  int left = 3;
  bench.server.fate = [&](Step step) {
    return step == Step::finish && left-- > 0 ? Fate::cut : Fate::fine;
  };
  bench.append(0, 6, 2);
  REQUIRE(bench.drain());
  CHECK(bench.server.table == Numbers{0, 1, 6, 7});
  CHECK(bench.server.watermarks.begin()->second == 8);
  CHECK(bench.reporter.events_lost == 4);
  CHECK(bench.reporter.regresses == 1);
}

TEST_CASE("lane: random histories of two lanes leave each event in the table once") {
  const std::uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  constexpr std::uint64_t kHistories = 10'000;
  for (std::uint64_t history = 0; history < kHistories; ++history) {
    std::mt19937_64 random(seed + history);
    LaneOptions options;
    options.batch_rows_max = 1 + random() % 6;
    Bench bench(2, {.segment_bytes = 1 + random() % 1'000}, options);
    const std::uint64_t trouble_percent = random() % 40;
    bool calm = false;
    bench.server.fate = [&](Step) {
      if (calm || random() % 100 >= trouble_percent) return Fate::fine;
      constexpr const char* kStates[] = {"40001", "55P03", "53300", "57014", "57P01",
                                         "25006", "42P01", "23505", "08006"};
      bench.server.refusal.sqlstate = kStates[random() % std::size(kStates)];
      return kFates[random() % std::size(kFates)];
    };
    bench.server.zombie_commits = [&] { return random() % 2 == 0; };

    std::uint64_t events = 0;
    std::map<std::uint64_t, std::size_t> lane_of;
    for (int i = 0; i < 40; ++i) {
      if (random() % 4 == 0) {
        const std::uint64_t count = 1 + random() % 4;
        const std::size_t lane = random() % 2;
        for (std::uint64_t n = 0; n < count; ++n) lane_of[events + n] = lane;
        bench.append(lane, events, count);
        events += count;
      }
      bench.turn();
    }
    calm = true;
    CAPTURE(history);
    if (!bench.drain()) FAIL("not drained");

    Numbers by_lane[2];
    for (const std::uint64_t number : bench.server.table)
      by_lane[lane_of[number]].push_back(number);
    const bool in_order = std::is_sorted(by_lane[0].begin(), by_lane[0].end()) &&
                          std::is_sorted(by_lane[1].begin(), by_lane[1].end());
    Numbers table = bench.server.table;
    std::sort(table.begin(), table.end());
    if (table != numbers_upto(events)) FAIL("not each event once");
    if (!in_order) FAIL("a lane's events are out of order");
    if (bench.reporter.events_committed != events) FAIL("the report does not add up");
    if (bench.reporter.events_in_groups != events) FAIL("the groups do not add up");
    if (bench.reporter.events_lost + bench.reporter.events_resent != 0) FAIL("a regress was seen");
  }
}
