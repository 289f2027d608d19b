// Rows that are refused for themselves: they cost themselves only.
#include <catch2/catch.hpp>
#include <random>

#include "tests/unit/lane_bench.hpp"

using namespace sluice::sink;
using namespace sluice::tests;
using namespace std::chrono_literals;
using sluice::spool::AsideState;
using sluice::spool::Position;

namespace {

const Route kRouteWithUid{.table = "events", .columns = {{"id", Source::id}, {"uid", Source::uid}}};

using Bench = LaneBench;

std::size_t count_steps(const FakeServer& server, Step step) {
  return static_cast<std::size_t>(std::count(server.steps.begin(), server.steps.end(), step));
}

const Numbers kFirst = {0};
const Numbers kLast = {39};
const Numbers kEachSeventh = {6, 13, 20, 27, 34};
const Numbers kNeighbours = {7, 8, 9};

}  // namespace

TEST_CASE("lane: refused rows are set aside with the reason, and only they") {
  const Numbers all = numbers_upto(40);
  const Numbers refused =
      *GENERATE_REF(values({&kFirst, &kLast, &kEachSeventh, &kNeighbours, &all}));
  Bench bench;
  bench.server.refused_rows = refused;
  bench.reader.add(0, 40);
  const auto began = bench.now;
  REQUIRE(bench.drain());
  CHECK(bench.server.table == bench.all_but(40, refused));
  CHECK(bench.valid_records() == refused);
  CHECK(bench.aside.records.size() == refused.size());
  CHECK(bench.reporter.rows_set_aside.size() == refused.size());
  CHECK(bench.reporter.events_set_aside == refused.size());
  CHECK(bench.reporter.events_committed == 40 - refused.size());
  CHECK(bench.aside.records[0].sqlstate == "23514");
  CHECK(bench.aside.records[0].line == "{\"n\":" + std::to_string(refused[0]) + "}");
  CHECK(bench.server.watermarks[bench.reader.at(0).id] == 40);
  CHECK(bench.reporter.holds.empty());
  CHECK(bench.reporter.failures.empty());
  CHECK(bench.now - began < 1s);
}

TEST_CASE("lane: a refused row costs its piece, and neither its batch nor the connection") {
  Bench bench;
  bench.server.refused_rows = {3};
  bench.reader.add(0, 200);
  REQUIRE(bench.drain());
  CHECK(bench.server.batches == Numbers{199});
  CHECK(count_steps(bench.server, Step::connect) == 1);
  CHECK(count_steps(bench.server, Step::rollback) == 1);
  CHECK(count_steps(bench.server, Step::resolve) == 1);
}

TEST_CASE("lane: one refused row in seven: each row is sent three times at most on average") {
  const bool tells = GENERATE(true, false);
  LaneOptions options;
  options.batch_rows_max = 1'000;
  Bench bench(options);
  bench.server.tells_rows = tells;
  constexpr std::uint64_t kRows = 7'000;
  for (std::uint64_t number = 6; number < kRows; number += 7) {
    bench.server.refused_rows.push_back(number);
  }
  bench.reader.add(0, kRows);
  REQUIRE(bench.drain());
  CHECK(bench.valid_records() == bench.server.refused_rows);
  CHECK(bench.server.table == bench.all_but(kRows, bench.server.refused_rows));
  CHECK(bench.server.rows_sent <= 3 * kRows);
  CHECK(count_steps(bench.server, Step::connect) == 1);
  CHECK(bench.reporter.holds.empty());
}

TEST_CASE("lane: one refused row in each batch costs a fifth of the rows at most") {
  Bench bench;
  constexpr std::uint64_t kRows = 100'000;
  for (std::uint64_t number = 5'000; number < kRows; number += 10'000) {
    bench.server.refused_rows.push_back(number);
  }
  bench.reader.open();
  for (std::uint64_t first = 0; first < kRows; first += 1'000) bench.reader.append(first, 1'000);
  REQUIRE(bench.drain());
  CHECK(bench.valid_records() == bench.server.refused_rows);
  // The first one meets a whole batch.
  CHECK(bench.server.rows_sent <= kRows + 10'000 + kRows / 5);
}

TEST_CASE("lane: rows that a deferred constraint refuses are found in pieces too") {
  const Numbers of_constraint = *GENERATE_REF(values({&kFirst, &kLast, &kNeighbours}));
  const Numbers at_once = *GENERATE_REF(values({&kEachSeventh, &kFirst}));
  const bool two_tables = GENERATE(true, false);
  std::vector<Route> routes = {kRoute};
  if (two_tables)
    routes.insert(routes.begin(),
                  Route{.match = "none", .table = "other", .columns = kRoute.columns});
  Bench bench({}, routes);
  bench.server.refused_when_checked = of_constraint;
  bench.server.refused_rows = at_once;
  bench.reader.add(0, 40);
  REQUIRE(bench.drain());
  Numbers refused;
  std::set_union(of_constraint.begin(), of_constraint.end(), at_once.begin(), at_once.end(),
                 std::back_inserter(refused));
  CHECK(bench.server.table == bench.all_but(40, refused));
  CHECK(bench.valid_records() == refused);
  CHECK(bench.reporter.holds.empty());
  CHECK(count_steps(bench.server, Step::connect) == 1);
}

TEST_CASE("lane: between two pieces the server is asked once") {
  Bench bench({}, {Route{.match = "none", .table = "other", .columns = kRoute.columns}, kRoute});
  bench.server.refused_rows = {3};
  bench.reader.add(0, 40);
  REQUIRE(bench.drain());
  // One row alone, those before it and those behind it, in one batch.
  CHECK(bench.server.batches == Numbers{39});
  CHECK(count_steps(bench.server, Step::settle) == 1);
}

TEST_CASE("lane: the time that refused pieces take does not make batches smaller") {
  const auto batches = [](bool is_poisoned) {
    LaneOptions options;
    options.batch_rows_max = 100'000;
    Bench bench(options);
    bench.server.refused_rows = {0};
    bench.reader.open();
    bench.reader.append(0, 1);
    REQUIRE(bench.drain());  // from now on in pieces
    bench.server.batches.clear();
    bench.server.fate = [&](Step step) {
      // What the server takes for the rows of a COPY.
      if (step == Step::finish) bench.now += std::chrono::milliseconds(3);
      return Fate::fine;
    };
    for (std::uint64_t number = 500; is_poisoned && number < 200'000; number += 10'000) {
      bench.server.refused_rows.push_back(number);
    }
    for (std::uint64_t first = 1; first < 200'001; first += 500) bench.reader.append(first, 500);
    REQUIRE(bench.drain());
    return bench.server.batches.size();
  };
  // Pieces are shorter where rows are refused, so that there are more of them.
  CHECK(2 * batches(true) <= 3 * batches(false));
}

TEST_CASE("lane: rows are made while the server opens the COPY") {
  Bench bench;
  bench.server.fate = [](Step step) { return step == Step::copy ? Fate::slow : Fate::fine; };
  bench.reader.add(0, 40);
  while (count_steps(bench.server, Step::copy) == 0) bench.turn();
  const std::uint64_t reads = bench.reader.reads;
  bench.turn_without_time();
  CHECK(bench.reader.reads > reads);  // for what comes behind the first block
  REQUIRE(bench.drain());
  CHECK(bench.server.table == numbers_upto(40));
}

TEST_CASE("lane: blocks whose rows go again are not read again") {
  Bench bench;
  constexpr std::uint64_t kRows = 50'000;
  constexpr std::uint64_t kBlocks = 50;
  bench.reader.open();
  for (std::uint64_t block = 0; block < kBlocks; ++block) bench.reader.append(block * 1'000, 1'000);
  bench.server.refused_rows = {0};
  // In pieces from the first block on.
  while (bench.server.table.empty()) bench.turn();
  for (std::uint64_t number = 12'500; number < kRows; number += 1'000) {
    bench.server.refused_rows.push_back(number);
  }
  bench.reader.reads = 0;
  REQUIRE(bench.drain());
  CHECK(bench.valid_records() == bench.server.refused_rows);
  CHECK(bench.reader.reads <= kBlocks);
}

TEST_CASE("lane: refused rows and any fate of any step leave each event in one place") {
  for (const Step step : kSteps) {
    for (const Fate fate : kFates) {
      for (const int nth : {1, 2, 4, 7}) {
        LaneOptions options;
        options.batch_rows_max = 6;
        Bench bench(options);
        bench.server.refused_rows = {2, 3, 9};
        bench.server.fate = nth_time(step, nth, fate);
        bench.reader.add(0, 12);
        CAPTURE(static_cast<int>(step), static_cast<int>(fate), nth);
        REQUIRE(bench.drain());
        CHECK(bench.server.table == bench.all_but(12, {2, 3, 9}));
        CHECK(bench.valid_records() == Numbers{2, 3, 9});
        CHECK(bench.aside.records.size() == 3);
        CHECK(bench.reporter.events_committed == 9);
        CHECK(bench.reporter.events_set_aside == 3);
      }
    }
  }
}

TEST_CASE("lane: the watermark passes a refused row only once its record is durable") {
  Bench bench;
  bench.server.refused_rows = {2};
  bench.reader.add(0, 5);
  bench.aside.reading_fails = [] { return true; };
  bench.run(200);
  CHECK(bench.reporter.states.back() == LaneState::held);
  CHECK(bench.server.table.empty());

  bench.aside.reading_fails = [] { return false; };
  bench.aside.append_fails = [] { return true; };
  bench.run(200);
  for (int i = 0; i < 50 && bench.reporter.states.back() != LaneState::held; ++i) bench.turn();
  CHECK(bench.reporter.states.back() == LaneState::held);
  CHECK(bench.server.watermarks[bench.reader.at(0).id] == 2);
  CHECK(bench.server.table == Numbers{0, 1});
  CHECK(bench.aside.records.empty());

  bench.aside.append_fails = [] { return false; };
  REQUIRE(bench.drain());
  CHECK(bench.server.table == Numbers{0, 1, 3, 4});
  CHECK(bench.valid_records() == Numbers{2});
}

TEST_CASE("lane: a record tells all that another try needs") {
  Bench bench;
  bench.server.refused_rows = {2};
  bench.reader.add(0, 5);
  REQUIRE(bench.drain());
  REQUIRE(bench.aside.records.size() == 1);
  const FakeAside::Record& record = bench.aside.records[0];
  CHECK(record.state == AsideState::dead);
  CHECK(record.id == numbered_id(2));
  CHECK(record.received_us == 2);
  CHECK(record.route == "*");
}

TEST_CASE("lane: what an earlier run left waiting is written again as waiting") {
  Bench bench;
  auto& segment = bench.reader.add(0, 3);
  bench.aside.records.push_back(
      {{segment.id, 1}, "23503", "{\"n\":1}", AsideState::waiting, numbered_id(1), 1, "*", false});
  REQUIRE(bench.drain());
  CHECK(bench.server.table == Numbers{0, 2});
  REQUIRE(bench.aside.records.size() == 2);
  CHECK(bench.aside.records[1].state == AsideState::waiting);
  CHECK(bench.aside.records[1].sqlstate == "23503");
}

TEST_CASE("lane: a row whose record could not be written is not sent again") {
  Bench bench;
  bench.server.refused_rows = {0};
  bench.reader.add(0, 1);
  bench.aside.append_fails = [] { return true; };
  bench.run(50);
  // Bytes of the record may be in the file: now the row must not get into the table as well.
  bench.server.refused_rows = {};
  bench.aside.append_fails = [] { return false; };
  REQUIRE(bench.drain());
  CHECK(bench.server.table.empty());
  CHECK(bench.valid_records() == Numbers{0});
}

TEST_CASE("lane: a thousand refused with none passed is a changed table: it holds") {
  const bool by_encoder = GENERATE(true, false);
  Bench bench({}, by_encoder ? kRouteWithUid : kRoute);
  bench.server.columns = {{"id", "uuid", ColumnType::uuid}, {"uid", "int2", ColumnType::int2}};
  bench.reader.uid = by_encoder ? 70'000 : 7;
  if (!by_encoder) bench.server.refused_rows = numbers_upto(3'000);
  bench.reader.add(0, 3'000);
  for (int i = 0; i < 100'000 && bench.reporter.holds.size() < 5; ++i) bench.turn();
  REQUIRE(bench.reporter.holds.size() == 5);
  CHECK(bench.aside.records.size() == 1'000);
  CHECK(bench.server.table.empty());

  bench.server.refused_rows = {};
  bench.server.columns = {{"id", "uuid", ColumnType::uuid}, {"uid", "int8", ColumnType::int8}};
  REQUIRE(bench.drain());
  CHECK(bench.server.table.size() == 2'000);
  CHECK(bench.valid_records() == numbers_upto(1'000));
}

TEST_CASE("lane: a thousand refused of one producer say nothing before another's was tried") {
  const bool refuses_all = GENERATE(false, true);
  Bench bench;
  bench.server.refused_rows = numbers_upto(refuses_all ? 3'000 : 1'500);
  bench.reader.open();
  bench.reader.uid = 7;
  bench.reader.append(0, 1'500);
  bench.reader.uid = 8;
  bench.reader.append(1'500, 100);
  for (int i = 0; i < 200'000 && bench.reporter.holds.empty(); ++i) bench.turn();
  CHECK(bench.reporter.holds.empty() != refuses_all);
  CHECK(bench.server.table.size() == (refuses_all ? 0 : 100));
  CHECK(bench.aside.records.size() == (refuses_all ? 1'501 : 1'500));
}

TEST_CASE("lane: lanes count what one route's table refuses together") {
  LaneOptions options;
  Bench bench(options);
  for (int i = 0; i < 999; ++i) options.brakes->refused(1, bench.reader.uid);
  bench.server.refused_rows = numbers_upto(5);
  bench.reader.add(0, 5);
  for (int i = 0; i < 10'000 && bench.reporter.holds.empty(); ++i) bench.turn();
  CHECK(bench.reporter.holds.size() == 1);
}

TEST_CASE("lane: rows that pass between the refused ones keep the brake open") {
  Bench bench;
  for (std::uint64_t number = 0; number < 2'400; number += 2) {
    bench.server.refused_rows.push_back(number);
  }
  bench.reader.add(0, 2'400);
  REQUIRE(bench.drain(1'000'000));
  CHECK(bench.reporter.holds.empty());
  CHECK(bench.aside.records.size() == 1'200);
  CHECK(bench.server.table.size() == 1'200);
}

TEST_CASE("lane: a record above the watermark is void, but its row is not sent a second time") {
  Bench bench;
  bench.server.refused_rows = {2};
  bench.reader.add(0, 5);
  // The process ends between the record and the commit.
  while (bench.aside.records.empty()) bench.turn();
  REQUIRE(bench.server.watermarks[bench.reader.at(0).id] == 0);
  CHECK(bench.valid_records().empty());
  bench.reader.restart();
  bench.restart();
  // Now the table would take it: with the record that the watermark then passes it would be twice.
  bench.server.refused_rows = {};
  REQUIRE(bench.drain());
  CHECK(bench.server.table == Numbers{0, 1, 3, 4});
  CHECK(bench.valid_records() == Numbers{2});
  // The first may not have been synced: it was written again.
  CHECK(bench.aside.records.size() == 2);
  CHECK(bench.aside.records[1].sqlstate == "23514");
}

TEST_CASE("lane: a failover that takes back a refused row's commit leaves one record") {
  LaneOptions options;
  options.batch_rows_max = 2;
  Bench bench(options);
  bench.server.refused_rows = {2};
  bench.reader.add(0, 8);
  bench.reader.open();
  REQUIRE(bench.drain());
  bench.run(5);
  bench.server.fail_over(4);
  REQUIRE(bench.server.table.size() < 7);
  for (int i = 0; i < 200; ++i) bench.turn();
  REQUIRE(bench.drain());
  CHECK(bench.server.table == Numbers{0, 1, 3, 4, 5, 6, 7});
  CHECK(bench.aside.records.size() == 1);
  CHECK(bench.valid_records() == Numbers{2});
  // The books: what went again is counted again.
  CHECK(bench.reporter.events_committed + bench.reporter.events_set_aside ==
        8 + bench.reporter.events_resent);
}

TEST_CASE("lane: a taken key where only the watermark was lost holds, and sets nothing aside") {
  Bench bench;
  bench.reader.add(0, 6);
  bench.reader.open();
  REQUIRE(bench.drain());
  bench.run(5);
  // Somebody emptied the watermark table: the rows are there.
  bench.server.watermarks.clear();
  bench.server.refusal.sqlstate = "23505";
  bench.server.fate = [](Step step) { return step == Step::finish ? Fate::refused : Fate::fine; };
  bench.run(300);
  CHECK(bench.reporter.states.back() == LaneState::held);
  CHECK(bench.aside.records.empty());
}

TEST_CASE("lane: an error of the whole table sets nothing aside") {
  const char* const sqlstate = GENERATE("42703", "42P01", "42501", "0A000", "28000");
  Bench bench;
  bench.server.refusal.sqlstate = sqlstate;
  bench.server.fate = [](Step step) { return step == Step::finish ? Fate::refused : Fate::fine; };
  bench.reader.add(0, 3);
  bench.run(200);
  CHECK(bench.aside.records.empty());
  CHECK(bench.reporter.states.back() == LaneState::held);
  bench.server.fate = [](Step) { return Fate::fine; };
  REQUIRE(bench.drain());
  CHECK(bench.server.table == numbers_upto(3));
}

TEST_CASE("lane: random histories with refused rows, restarts and failovers balance") {
  const std::uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  for (std::uint64_t history = 0; history < 2'000; ++history) {
    CAPTURE(history);
    std::mt19937_64 random(seed + history);
    LaneOptions options;
    options.batch_rows_max = 1 + random() % 6;
    Bench bench(options);
    bench.server.behind_pooler = random() % 2 == 0;
    bench.server.zombie_commits = [&] { return random() % 2 == 0; };
    bool calm = false;
    bench.server.fate = [&](Step) {
      constexpr const char* kStates[] = {"40001", "53300", "57P01", "42P01"};
      bench.server.refusal.sqlstate = kStates[random() % std::size(kStates)];
      return calm || random() % 10 != 0 ? Fate::fine : kFates[random() % std::size(kFates)];
    };
    bench.aside.append_fails = [&] { return !calm && random() % 8 == 0; };
    bench.aside.reading_fails = bench.aside.append_fails;
    std::uint64_t events = 0;
    Numbers refused;
    std::vector<Position> positions;  // by number
    const auto append = [&](std::uint64_t count) {
      auto& segment = bench.reader.open();
      for (std::uint64_t i = 0; i < count; ++i) {
        if (random() % 4 == 0) refused.push_back(events + i);
        positions.push_back({segment.id, i});
      }
      bench.reader.append(events, count);
      segment.closed = true;
      events += count;
      bench.server.refused_rows = refused;
    };
    append(3);
    for (int i = 0; i < 120; ++i) {
      const auto letter = random() % 24;
      if (letter == 0) append(1 + random() % 12);
      if (letter == 1) bench.server.fail_over(random() % 4);
      if (letter == 2) {
        bench.reader.restart();
        bench.restart();
      }
      bench.turn();
    }
    calm = true;
    bench.reader.open();
    if (!bench.drain()) FAIL("not drained");
    bench.pass(12s);
    if (!bench.drain()) FAIL("not drained after the last failover");

    Numbers table = bench.server.table;
    std::sort(table.begin(), table.end());
    if (table != bench.all_but(events, refused)) FAIL("the table has not each good row once");
    for (const std::uint64_t number : refused) {
      const bool is_recorded =
          std::any_of(bench.aside.records.begin(), bench.aside.records.end(),
                      [&](const auto& record) { return record.position == positions[number]; });
      if (!is_recorded) FAIL("a refused row has no record");
    }
    for (const auto& record : bench.aside.records) {
      const auto number = static_cast<std::uint64_t>(
          std::find(positions.begin(), positions.end(), record.position) - positions.begin());
      if (!std::binary_search(refused.begin(), refused.end(), number))
        FAIL("a good row is recorded");
    }
  }
}
