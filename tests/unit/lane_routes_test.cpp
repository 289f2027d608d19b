// Batches whose events lead to several tables: one transaction, one watermark.
#include <catch2/catch.hpp>
#include <random>

#include "tests/unit/lane_bench.hpp"

using namespace sluice::sink;
using namespace sluice::tests;
using namespace std::chrono_literals;
using sluice::spool::AsideState;

namespace {

Route route_to(const std::string& table, const std::string& match) {
  return {.match = match, .table = table, .columns = {{"id", Source::id}}};
}

std::vector<Route> three_routes() {
  return {route_to("messages", "message.*"), route_to("parents", "parent"),
          route_to("events", "*")};
}

std::string type_by_turns(std::uint64_t number) {
  constexpr const char* kTypes[] = {"other", "message.sent", "parent", "message.read", "parents"};
  return kTypes[number % std::size(kTypes)];
}

const char* table_by_turns(std::uint64_t number) {
  constexpr const char* kTables[] = {"events", "messages", "parents", "messages", "events"};
  return kTables[number % std::size(kTables)];
}

// Messages refer to parents.
LaneBench bench_of_three(LaneOptions options = {}) {
  return {std::move(options), three_routes()};
}

void let_messages_refer_to_parents(FakeServer& server) {
  server.catalog["parents"].oid = 7;
  server.catalog["messages"].refers_to = {7, 99};
}

Numbers numbers_for(std::uint64_t end, const std::string& table) {
  Numbers numbers;
  for (std::uint64_t number = 0; number < end; ++number) {
    if (table == table_by_turns(number)) numbers.push_back(number);
  }
  return numbers;
}

std::size_t count(const std::vector<Step>& steps, Step step) {
  return static_cast<std::size_t>(std::count(steps.begin(), steps.end(), step));
}

}  // namespace

TEST_CASE("lane: a batch of several routes is one transaction with a COPY for each table") {
  LaneBench bench = bench_of_three();
  bench.reader.type_of = type_by_turns;
  bench.reader.add(0, 50);
  REQUIRE(bench.drain());
  for (const char* table : {"events", "messages", "parents"}) {
    CHECK(bench.server.rows_of(table) == numbers_for(50, table));
  }
  CHECK(bench.server.batches == Numbers{50});
  CHECK(bench.server.copies == std::vector<std::string>{"events", "messages", "parents"});
  CHECK(count(bench.server.steps, Step::settle) == 0);
  CHECK(bench.reporter.events_committed == 50);
  CHECK(bench.server.watermarks[bench.reader.at(0).id] == 50);
}

TEST_CASE("lane: tables that others refer to go first, whatever came first") {
  LaneBench bench = bench_of_three();
  let_messages_refer_to_parents(bench.server);
  bench.server.lacks_parent = [](const std::string& table, std::uint64_t number,
                                 const FakeRows& others) {
    // Each message's parent is the next event but one with the right type.
    const std::uint64_t parent = number / 5 * 5 + 2;
    return table == "messages" &&
           std::find(others.numbers.begin(), others.numbers.end(), parent) == others.numbers.end();
  };
  bench.reader.type_of = [](std::uint64_t number) { return type_by_turns(number + 1); };
  SECTION("the first event leads to a table that refers to another") {
    bench.server.lacks_parent = [](const std::string& table, std::uint64_t number,
                                   const FakeRows& others) {
      const std::uint64_t parent = number / 5 * 5 + 1;
      return table == "messages" && std::find(others.numbers.begin(), others.numbers.end(),
                                              parent) == others.numbers.end();
    };
    bench.reader.add(0, 50);
    REQUIRE(bench.drain());
    CHECK(bench.server.copies == std::vector<std::string>{"parents", "messages", "events"});
  }
  SECTION("it leads to one that refers to none, and is streamed") {
    bench.reader.type_of = type_by_turns;
    bench.reader.add(0, 50);
    REQUIRE(bench.drain());
    CHECK(bench.server.copies == std::vector<std::string>{"events", "parents", "messages"});
  }
  CHECK(bench.server.batches == Numbers{50});
  CHECK(bench.reporter.rows_set_aside.empty());
  CHECK(bench.reporter.failures.empty());
}

TEST_CASE("lane: constraints are checked behind the last COPY, also where there is only one") {
  LaneBench bench = bench_of_three();
  let_messages_refer_to_parents(bench.server);
  bench.reader.type_of = [](std::uint64_t) { return "other"; };
  bench.reader.add(0, 5);
  REQUIRE(bench.drain());
  CHECK(count(bench.server.steps, Step::settle) == 1);
  CHECK(bench.server.batches == Numbers{5});
}

TEST_CASE("lane: with one route there is no step more than with one table") {
  LaneBench bench;
  bench.reader.add(0, 5);
  REQUIRE(bench.drain());
  CHECK(bench.server.steps == std::vector{Step::connect, Step::describe, Step::resolve, Step::copy,
                                          Step::finish, Step::commit});
}

TEST_CASE("lane: a batch of nothing but rows that are kept back closes at its size") {
  LaneOptions options;
  options.batch_rows_max = 10;
  LaneBench bench = bench_of_three(options);
  let_messages_refer_to_parents(bench.server);
  bench.reader.type_of = [](std::uint64_t) { return "message.sent"; };
  bench.reader.add(0, 25);
  REQUIRE(bench.drain());
  CHECK(bench.server.batches == Numbers{10, 10, 5});
  CHECK(bench.server.rows_of("messages") == numbers_upto(25));
}

TEST_CASE("lane: a connection that is lost while rows are kept back loses nothing") {
  LaneBench bench = bench_of_three();
  let_messages_refer_to_parents(bench.server);
  bench.reader.type_of = [](std::uint64_t) { return "message.sent"; };
  bench.reader.open();
  bench.reader.append(0, 3);
  for (int i = 0; i < 12; ++i) bench.turn_without_time();
  bench.close_connection();
  bench.reader.append(3, 3);
  REQUIRE(bench.drain());
  CHECK(bench.server.rows_of("messages") == numbers_upto(6));
}

TEST_CASE("lane: an event that no route takes is set aside, and its neighbours are not") {
  LaneBench bench({}, {route_to("events", "event")});
  bench.reader.type_of = [](std::uint64_t number) { return number == 2 ? "other" : "event"; };
  bench.reader.add(0, 5);
  REQUIRE(bench.drain());
  CHECK(bench.server.table == Numbers{0, 1, 3, 4});
  REQUIRE(bench.aside.records.size() == 1);
  CHECK(bench.aside.records[0].position.index == 2);
  CHECK(bench.aside.records[0].sqlstate == "42704");
}

TEST_CASE("lane: rows of a route whose table does not fit are held, and the others go on") {
  LaneBench bench = bench_of_three();
  bench.reader.type_of = type_by_turns;
  bench.reader.add(0, 10);
  CatalogTable& parents = bench.server.catalog["parents"];
  std::string sqlstate = "42P01";
  SECTION("it is missing") {
    parents.exists = false;
  }
  SECTION("it may not be written") {
    parents.may_insert = false;
    sqlstate = "42501";
  }
  REQUIRE(bench.drain());
  CHECK(bench.reporter.holds.empty());
  CHECK(bench.server.rows_of("parents").empty());
  CHECK(bench.server.rows_of("events") == numbers_for(10, "events"));
  CHECK(bench.server.rows_of("messages") == numbers_for(10, "messages"));
  CHECK(bench.valid_records() == numbers_for(10, "parents"));
  for (const FakeAside::Record& record : bench.aside.records) {
    CHECK(record.state == AsideState::held);
    CHECK(record.sqlstate == sqlstate);
    CHECK(record.route == "parent");
  }
  // Once it is mended, what comes goes into it again.
  const std::size_t held = bench.aside.records.size();
  bench.server.catalog.clear();
  bench.now += 31s;
  bench.reader.add(10, 10);
  REQUIRE(bench.drain());
  CHECK(bench.server.rows_of("parents") == Numbers{12, 17});
  CHECK(bench.aside.records.size() == held);
}

TEST_CASE("lane: a table that refuses a thousand in a row holds its route, and the others go on") {
  LaneBench bench = bench_of_three();
  bench.reader.type_of = type_by_turns;
  const Numbers parents = numbers_for(8'000, "parents");
  bench.server.refused_rows = parents;
  bench.reader.open();
  bench.reader.append(0, 8'000);
  REQUIRE(bench.drain(1'000'000));
  CHECK(bench.reporter.holds.empty());
  CHECK(bench.server.table.size() == 6'400);
  REQUIRE(bench.aside.records.size() == parents.size());
  for (std::size_t i = 0; i < parents.size(); ++i) {
    CHECK(bench.aside.records[i].state == (i < 1'000 ? AsideState::dead : AsideState::held));
    CHECK(bench.aside.records[i].sqlstate == "23514");
  }
  // Looked at again it is still so: one row tells that.
  bench.pass(31s);
  bench.server.refused_rows = numbers_for(8'100, "parents");
  bench.reader.append(8'000, 100);
  REQUIRE(bench.drain());
  CHECK(bench.aside.records.size() == 1'620);
  CHECK(bench.aside.records.back().state == AsideState::held);
  bench.server.refused_rows.clear();
  bench.pass(31s);
  bench.reader.append(8'100, 100);
  REQUIRE(bench.drain());
  CHECK(bench.server.rows_of("parents").size() == 20);
  CHECK(bench.aside.records.size() == 1'620);
}

TEST_CASE("lane: more than the brake allows may be held") {
  LaneBench bench = bench_of_three();
  bench.reader.type_of = [](std::uint64_t number) { return number < 3'000 ? "parent" : "other"; };
  bench.server.catalog["parents"].exists = false;
  bench.reader.add(0, 3'001);
  REQUIRE(bench.drain());
  CHECK(bench.aside.records.size() == 3'000);
  CHECK(bench.server.table == Numbers{3'000});
}

TEST_CASE("lane: rows of a table that does not fit wait in the spool while no others come") {
  LaneBench bench = bench_of_three();
  bench.reader.type_of = [](std::uint64_t number) { return number < 10 ? "parent" : "other"; };
  bench.server.catalog["parents"].exists = false;
  bench.reader.open();
  bench.reader.append(0, 5);
  bench.reader.append(5, 5);
  bench.run(50);
  REQUIRE_FALSE(bench.reporter.holds.empty());
  CHECK(bench.reporter.holds[0].failure.sqlstate == "42P01");
  CHECK(bench.aside.records.empty());
  SECTION("it is mended") {
    bench.server.catalog.clear();
    bench.pass(60s);
    CHECK(bench.server.rows_of("parents") == numbers_upto(10));
    CHECK(bench.aside.records.empty());
  }
  SECTION("others come") {
    bench.reader.append(10, 5);
    bench.pass(60s);
    CHECK(bench.server.rows_of("events") == Numbers{10, 11, 12, 13, 14});
    CHECK(bench.valid_records() == numbers_upto(10));
  }
}

TEST_CASE("lane: while the table of every route does not fit the lane holds") {
  LaneBench bench = bench_of_three();
  bench.reader.type_of = type_by_turns;
  bench.reader.add(0, 10);
  for (const char* table : {"events", "messages", "parents"}) {
    bench.server.catalog[table].exists = false;
  }
  bench.run(50);
  REQUIRE_FALSE(bench.reporter.holds.empty());
  CHECK(bench.reporter.holds[0].failure.sqlstate == "42P01");
  CHECK(bench.aside.records.empty());
  bench.server.catalog.clear();
  REQUIRE(bench.drain());
  CHECK(bench.server.rows_of("parents") == numbers_for(10, "parents"));
}

TEST_CASE("lane: a row whose parent is missing waits among the set-aside records") {
  LaneOptions options;
  options.parent_wait = 30s;
  LaneBench bench = bench_of_three(options);
  bench.reader.type_of = type_by_turns;
  bench.server.lacks_parent = [](const std::string&, std::uint64_t number, const FakeRows&) {
    return number == 3;
  };
  bench.server.refused_rows = {6};
  bench.reader.add(0, 10);
  REQUIRE(bench.drain());
  CHECK(bench.server.table.size() == 8);
  REQUIRE(bench.aside.records.size() == 2);
  CHECK(bench.aside.records[0].state == AsideState::waiting);
  CHECK(bench.aside.records[0].sqlstate == "23503");
  CHECK(bench.aside.records[1].state == AsideState::dead);
}

TEST_CASE("lane: a trigger that drops rows holds its route and is named, unless it may") {
  const bool may_skip = GENERATE(false, true);
  Route route = route_to("events", "*");
  route.trigger_may_skip = may_skip;
  LaneBench bench({}, route);
  bench.server.catalog["events"].skipping_triggers = "no_sundays";
  bench.server.rows_swallowed = 1;
  bench.reader.add(0, 5);
  bench.run(100);
  if (may_skip) {
    CHECK(bench.reader.events_held() == 0);
    CHECK(bench.reporter.holds.empty());
  } else {
    REQUIRE_FALSE(bench.reporter.holds.empty());
    CHECK(bench.reporter.holds[0].failure.message.find("no_sundays") != std::string::npos);
    CHECK(bench.reader.events_held() == 5);
  }
}

TEST_CASE("lane: several tables and any fate of any step leave each event in its table once") {
  for (const Step step : kSteps) {
    for (const Fate fate : kFates) {
      for (const int nth : {1, 2, 3, 5}) {
        LaneOptions options;
        options.batch_rows_max = 8;
        LaneBench bench = bench_of_three(options);
        if (nth % 2 == 0) let_messages_refer_to_parents(bench.server);
        bench.reader.type_of = type_by_turns;
        bench.server.fate = nth_time(step, nth, fate);
        bench.reader.add(0, 20);
        CAPTURE(static_cast<int>(step), static_cast<int>(fate), nth);
        REQUIRE(bench.drain());
        for (const char* table : {"events", "messages", "parents"}) {
          CHECK(bench.server.rows_of(table) == numbers_for(20, table));
        }
        CHECK(bench.reporter.events_committed == 20);
      }
    }
  }
}

TEST_CASE("lane: refused rows of several tables are set aside, and only they") {
  LaneBench bench = bench_of_three();
  let_messages_refer_to_parents(bench.server);
  bench.server.refused_rows = {0, 11, 12, 37};
  bench.reader.type_of = type_by_turns;
  bench.reader.add(0, 40);
  REQUIRE(bench.drain());
  CHECK(bench.valid_records() == Numbers{0, 11, 12, 37});
  CHECK(bench.server.table.size() == 36);
  CHECK(bench.server.rows_of("parents").size() == numbers_for(40, "parents").size() - 2);
}
