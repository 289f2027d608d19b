// Rows whose key is taken: late duplicates, and rows that are set aside.
#include <catch2/catch.hpp>

#include "tests/unit/lane_bench.hpp"

using namespace sluice::sink;
using namespace sluice::tests;
using namespace std::chrono_literals;

namespace {

Route keyed_route(RouteMode mode, OnConflict on_conflict = OnConflict::compare) {
  return {
      .table = "events", .columns = {{"id", Source::id}}, .mode = mode, .on_conflict = on_conflict};
}

// A table with a primary key, whose rows' keys are their numbers modulo 100.
void give_key(FakeServer& server) {
  server.keyed_tables = {"events"};
  server.key_of = [](std::uint64_t number) { return number % 100; };
  server.catalog["events"].unique_keys = {{"events_pkey", {"id"}, "", true, false}};
}

LaneBench keyed_bench(RouteMode mode, OnConflict on_conflict = OnConflict::compare,
                      LaneOptions options = {}) {
  return LaneBench(std::move(options), std::vector{keyed_route(mode, on_conflict)});
}

}  // namespace

TEST_CASE("lane: a route in merge mode merges each batch, and a key that is taken is a duplicate") {
  LaneBench bench = keyed_bench(RouteMode::merge);
  give_key(bench.server);
  bench.reader.add(0, 10);
  bench.reader.add(95, 15);  // keys 95 to 99, and 0 to 9 again
  REQUIRE(bench.drain());
  Numbers expected = numbers_upto(10);
  for (std::uint64_t number = 95; number < 100; ++number) expected.push_back(number);
  CHECK(bench.server.table == expected);
  CHECK(bench.server.merges == bench.server.copies);
  CHECK(bench.reporter.events_committed == 15);
  CHECK(bench.reporter.events_in_table == 10);
  CHECK(bench.aside.records.empty());
  CHECK(bench.server.watermarks[bench.reader.at(1).id] == 15);
}

TEST_CASE("lane: while no key is taken a route in merge mode is sent by plain COPY") {
  LaneOptions options;
  options.batch_rows_max = 5;
  LaneBench bench = keyed_bench(RouteMode::merge, OnConflict::compare, options);
  give_key(bench.server);
  bench.reader.open();
  bench.reader.append(0, 60);
  REQUIRE(bench.drain());
  CHECK(bench.server.copies.size() == 12);
  CHECK(bench.server.merges.size() == kMergesBeforeCopy);
  bench.reader.append(107, 1);
  REQUIRE(bench.drain());
  CHECK(bench.server.copies.size() == 14);  // a plain one that was refused, and one that merged
  CHECK(bench.server.merges.size() == kMergesBeforeCopy + 1);
  CHECK(bench.server.table == numbers_upto(60));
  CHECK(bench.reporter.events_in_table == 1);
  CHECK(bench.reporter.failures.empty());
  bench.reader.append(60, 40);
  REQUIRE(bench.drain());
  CHECK(bench.server.copies.size() == 22);  // the taken key counts for eight again
  CHECK(bench.server.merges.size() == 2 * kMergesBeforeCopy + 1);
  CHECK(bench.server.table == numbers_upto(100));
}

TEST_CASE("lane: whatever a plain COPY in merge mode meets is merged before it counts") {
  LaneOptions options;
  options.batch_rows_max = 5;
  LaneBench bench = keyed_bench(RouteMode::merge, OnConflict::compare, options);
  give_key(bench.server);
  bench.server.refused_rows = {43};
  bench.reader.add(0, 45);
  REQUIRE(bench.drain());
  Numbers expected = numbers_upto(45);
  expected.erase(expected.begin() + 43);
  CHECK(bench.server.table == expected);
  CHECK(bench.valid_records() == Numbers{43});
  // Eight batches, the last one plain and then merged, and its pieces merged too.
  CHECK(bench.server.merges.size() == bench.server.copies.size() - 1);
}

TEST_CASE("lane: row-level security and triggers that may skip leave nothing but merging") {
  LaneOptions options;
  options.batch_rows_max = 5;
  LaneBench bench = keyed_bench(RouteMode::merge, OnConflict::compare, options);
  give_key(bench.server);
  if (GENERATE(false, true)) {
    bench.server.catalog["events"].has_row_security = true;
  } else {
    bench.server.catalog["events"].skipping_triggers = "no_sundays";
  }
  bench.reader.add(0, 60);
  REQUIRE(bench.drain());
  CHECK(bench.server.table == numbers_upto(60));
  CHECK(bench.server.merges == bench.server.copies);
}

TEST_CASE("lane: a row that does not agree with the one that has its key is set aside") {
  LaneBench bench = keyed_bench(RouteMode::merge);
  give_key(bench.server);
  bench.server.content_of = [](std::uint64_t number) { return number == 103 ? 1u : 0u; };
  bench.reader.add(0, 5);
  bench.reader.add(100, 6);
  REQUIRE(bench.drain());
  CHECK(bench.server.table == Numbers{0, 1, 2, 3, 4, 105});
  REQUIRE(bench.aside.records.size() == 1);
  CHECK(bench.aside.records[0].line == "{\"n\":103}");
  CHECK(bench.aside.records[0].sqlstate == "23505");
  CHECK(bench.valid_records() == Numbers{3});
  CHECK(bench.reporter.events_committed == 6);
  CHECK(bench.reporter.events_in_table == 4);
  CHECK(bench.reporter.events_set_aside == 1);
}

TEST_CASE("lane: of a key twice in one batch the first row counts, and the second is compared") {
  LaneBench bench = keyed_bench(RouteMode::merge);
  give_key(bench.server);
  bench.server.content_of = [](std::uint64_t number) { return number >= 200 ? 1u : 0u; };
  bench.reader.open();
  bench.reader.append(7, 1);
  bench.reader.append(107, 1);
  bench.reader.append(207, 1);
  REQUIRE(bench.drain());
  CHECK(bench.server.batches == Numbers{1});
  CHECK(bench.server.table == Numbers{7});
  CHECK(bench.valid_records() == Numbers{2});
  CHECK(bench.reporter.events_in_table == 1);
}

TEST_CASE("lane: with skip the key decides") {
  LaneBench bench = keyed_bench(RouteMode::merge, OnConflict::skip);
  give_key(bench.server);
  bench.server.content_of = [](std::uint64_t number) { return number; };
  bench.reader.add(0, 5);
  bench.reader.add(100, 5);
  REQUIRE(bench.drain());
  CHECK(bench.server.table == numbers_upto(5));
  CHECK(bench.aside.records.empty());
  CHECK(bench.reporter.events_in_table == 5);
}

TEST_CASE("lane: an appended batch that meets a taken key is merged, and no other batch is") {
  LaneOptions options;
  options.batch_rows_max = 10;
  LaneBench bench = keyed_bench(RouteMode::append, OnConflict::compare, options);
  give_key(bench.server);
  bench.server.content_of = [](std::uint64_t number) { return number == 112 ? 1u : 0u; };
  bench.reader.add(0, 30);
  bench.reader.add(110, 5);  // keys 10 to 14
  bench.reader.add(40, 20);
  REQUIRE(bench.drain());
  CHECK(bench.server.table.size() == 50);
  CHECK(bench.server.merges.size() == 1);
  CHECK(bench.server.batches == Numbers{10, 10, 10, 0, 10, 10});
  CHECK(bench.reporter.events_in_table == 4);
  CHECK(bench.valid_records() == Numbers{2});
  CHECK(bench.reporter.failures.empty());
  CHECK(bench.reporter.holds.empty());
}

TEST_CASE("lane: rows that were delivered and whose watermark is gone are found by merging") {
  LaneBench bench = keyed_bench(RouteMode::append);
  give_key(bench.server);
  bench.reader.open();
  bench.reader.append(0, 10);
  REQUIRE(bench.drain());
  bench.server.watermarks[bench.reader.at(0).id] = 4;
  bench.pass(20s);
  bench.reader.append(10, 2);
  REQUIRE(bench.drain());
  CHECK(bench.server.table == numbers_upto(12));
  CHECK(bench.reporter.events_in_table == 6);
  CHECK(bench.aside.records.empty());
}

TEST_CASE("lane: without a key or the rights, a taken key sets its row aside") {
  LaneBench bench = keyed_bench(RouteMode::append);
  give_key(bench.server);
  SECTION("no key in the catalog") {
    bench.server.catalog["events"].unique_keys.clear();
  }
  SECTION("no right to read the key") {
    bench.server.catalog["events"].columns = bench.server.columns;
    bench.server.catalog["events"].columns[0].may_select = false;
  }
  bench.reader.add(0, 5);
  bench.reader.add(103, 4);  // key 3 and 4 again
  REQUIRE(bench.drain());
  CHECK(bench.server.merges.empty());
  CHECK(bench.server.table == Numbers{0, 1, 2, 3, 4, 105, 106});
  CHECK(bench.valid_records() == Numbers{0, 1});
}

TEST_CASE("lane: a route in merge mode without a key or the rights holds, and says which") {
  LaneBench bench = keyed_bench(RouteMode::merge);
  give_key(bench.server);
  bench.server.catalog["events"].columns = bench.server.columns;
  bench.reader.add(0, 5);
  SECTION("no key") {
    bench.server.catalog["events"].unique_keys.clear();
    bench.run(50);
    REQUIRE_FALSE(bench.reporter.holds.empty());
    CHECK(bench.reporter.holds[0].failure.sqlstate == "42P10");
  }
  SECTION("no right to read") {
    bench.server.catalog["events"].columns[0].may_select = false;
    bench.run(50);
    REQUIRE_FALSE(bench.reporter.holds.empty());
    CHECK(bench.reporter.holds[0].failure.message ==
          "role \"role\" may not SELECT \"id\" of \"events\", which merging compares");
  }
  CHECK(bench.server.table.empty());
}

TEST_CASE("lane: row-level security holds a route that appends, and lets one that merges") {
  const bool merges = GENERATE(false, true);
  LaneBench bench = keyed_bench(merges ? RouteMode::merge : RouteMode::append);
  give_key(bench.server);
  bench.server.catalog["events"].has_row_security = true;
  bench.reader.add(0, 5);
  bench.run(100);
  CHECK(bench.server.table == numbers_upto(merges ? 5 : 0));
  CHECK(bench.reporter.holds.empty() == merges);
}

TEST_CASE("lane: a conflict whose record cannot be written holds the batch back") {
  LaneBench bench = keyed_bench(RouteMode::merge);
  give_key(bench.server);
  bench.server.content_of = [](std::uint64_t number) { return number; };
  bench.reader.add(0, 5);
  REQUIRE(bench.drain());
  bench.aside.append_fails = [] { return true; };
  bench.reader.add(104, 3);
  bench.run(100);
  CHECK(bench.reporter.states.back() == LaneState::held);
  CHECK(bench.server.table == numbers_upto(5));
  bench.aside.append_fails = [] { return false; };
  REQUIRE(bench.drain());
  CHECK(bench.server.table == Numbers{0, 1, 2, 3, 4, 105, 106});
  CHECK(bench.valid_records() == Numbers{0});
}

TEST_CASE("lane: merging and any fate of any step leave each event in one place") {
  for (const RouteMode mode : {RouteMode::append, RouteMode::merge}) {
    for (const Step step : kSteps) {
      for (const Fate fate : kFates) {
        for (const int nth : {1, 2, 3, 5, 13}) {
          LaneOptions options;
          options.batch_rows_max = 6;
          LaneBench bench = keyed_bench(mode, OnConflict::compare, options);
          give_key(bench.server);
          bench.server.content_of = [](std::uint64_t number) { return number == 104 ? 1u : 0u; };
          bench.server.fate = nth_time(step, nth, fate);
          Numbers expected;
          if (nth == 13) {  // so many before that plain COPY is tried
            bench.reader.add(30, 60);
            expected = numbers_upto(90);
            expected.erase(expected.begin(), expected.begin() + 30);
          }
          const std::size_t before = expected.size();
          bench.reader.add(0, 8);
          bench.reader.add(102, 4);
          bench.reader.add(20, 4);
          CAPTURE(static_cast<int>(mode), static_cast<int>(step), static_cast<int>(fate), nth);
          REQUIRE(bench.drain());
          for (const std::uint64_t number : {0, 1, 2, 3, 4, 5, 6, 7, 20, 21, 22, 23}) {
            expected.push_back(number);
          }
          CHECK(bench.server.table == expected);
          CHECK(bench.valid_records() == Numbers{2});
          CHECK(bench.reporter.events_set_aside == 1);
          CHECK(bench.reporter.events_committed + bench.reporter.events_in_table == before + 15);
        }
      }
    }
  }
}
