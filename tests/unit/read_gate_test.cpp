// The read gate: who may read while memory is short.
#include "ingest/read_gate.hpp"

#include <catch2/catch.hpp>

using sluice::ingest::IngestCounters;
using sluice::ingest::ReadGate;
using sluice::spool::ByteBudget;

namespace {

struct Reader final : ReadGate::Reader {
  void wake() override { ++wakes; }
  int wakes = 0;
};

constexpr std::size_t kWhole = ReadGate::kReadBytesMax;
constexpr std::size_t kQuiet = ReadGate::kQuietReadBytes;
constexpr std::size_t kFloor = ReadGate::kCarryFloorBytes;

struct Gate {
  explicit Gate(std::size_t carry_bytes_max = 100'000) : gate(budget, carry_bytes_max, counters) {
    budget.on_room([this] { gate.room_came(); });
  }
  ByteBudget budget{1000};
  IngestCounters counters;
  ReadGate gate;

  // Its last read was large: it may not go beyond the budget.
  void make_busy(Reader& reader) {
    REQUIRE(gate.ask(reader) == kWhole);
    gate.done(reader, kWhole, 0);
  }
};

}  // namespace

TEST_CASE("read gate: with room everybody reads") {
  Gate g;
  Reader reader;
  CHECK(g.gate.ask(reader) == kWhole);
  CHECK(g.counters.budget_waits == 0);
}

TEST_CASE("read gate: without room readers are woken in the order they came, one for each turn") {
  Gate g;
  Reader first;
  Reader second;
  g.make_busy(first);
  g.make_busy(second);
  g.budget.take(1000);
  CHECK(g.gate.ask(first) == 0);
  CHECK(g.gate.ask(second) == 0);
  CHECK(g.counters.budget_waits == 2);

  g.budget.give_back(1000);
  CHECK(first.wakes == 1);
  CHECK(second.wakes == 0);
  CHECK(g.gate.ask(second) == 0);  // not its turn
  REQUIRE(g.gate.ask(first) == kWhole);
  g.budget.take(1000);
  g.gate.done(first, kWhole, 0);
  CHECK(second.wakes == 0);  // the room is gone again

  g.budget.give_back(1000);
  CHECK(second.wakes == 1);
  CHECK(g.gate.ask(second) == kWhole);
  CHECK(g.counters.budget_waits == 2);
}

TEST_CASE("read gate: who comes when others stand in line stands behind them") {
  Gate g;
  Reader waiting;
  Reader newcomer;
  g.make_busy(waiting);
  g.make_busy(newcomer);
  g.budget.take(1000);
  CHECK(g.gate.ask(waiting) == 0);
  g.budget.give_back(1000);
  CHECK(g.gate.ask(newcomer) == 0);
  REQUIRE(g.gate.ask(waiting) == kWhole);
  g.gate.done(waiting, kWhole, 0);
  CHECK(newcomer.wakes == 1);
  CHECK(g.gate.ask(newcomer) == kWhole);
}

TEST_CASE("read gate: without room a quiet reader still reads a little, past those in line") {
  Gate g;
  Reader busy;
  Reader quiet;
  g.make_busy(busy);
  g.budget.take(1000);
  CHECK(g.gate.ask(busy) == 0);
  CHECK(g.gate.ask(quiet) == kQuiet);
  g.gate.done(quiet, 300, 0);
  CHECK(g.gate.ask(quiet) == kQuiet);
  g.gate.done(quiet, kQuiet, 0);  // more than a quiet one sends
  CHECK(g.gate.ask(quiet) == 0);

  g.budget.give_back(1000);
  CHECK(busy.wakes == 1);
  REQUIRE(g.gate.ask(busy) == kWhole);
  g.gate.done(busy, kWhole, 0);
  CHECK(quiet.wakes == 1);
  CHECK(g.gate.ask(quiet) == kWhole);
}

TEST_CASE("read gate: what quiet readers take beyond the budget is bounded") {
  Gate g;
  Reader quiet;
  g.budget.take(1000 + 1000 / ReadGate::kQuietShare);
  CHECK(g.gate.ask(quiet) == 0);
  g.budget.give_back(1);
  CHECK(g.gate.ask(quiet) == kQuiet);
  g.gate.done(quiet, 300, 0);
  g.budget.give_back(500);
  CHECK(quiet.wakes == 0);  // it has left the line
}

TEST_CASE("read gate: a reader that leaves the line does not take the others' turn along") {
  Gate g;
  Reader first;
  Reader second;
  g.make_busy(first);
  g.make_busy(second);
  g.budget.take(1000);
  CHECK(g.gate.ask(first) == 0);
  CHECK(g.gate.ask(second) == 0);
  g.budget.give_back(1000);  // wakes the first, which goes away instead
  g.gate.leave(first);
  CHECK(second.wakes == 1);
  CHECK(g.gate.ask(second) == kWhole);
}

TEST_CASE(
    "read gate: with the carry used up, each keeps a little and one goes on without a bound") {
  Gate g(10'000);
  Reader large;
  Reader other;
  Reader quiet;
  REQUIRE(g.gate.ask(large) == kWhole);
  g.gate.done(large, kWhole, 8'000);
  REQUIRE(g.gate.ask(other) == kWhole);
  g.gate.done(other, kWhole, 8'000);

  CHECK(g.gate.ask(quiet) == kFloor);
  g.gate.done(quiet, kWhole, 1'000);
  CHECK(g.gate.ask(quiet) == kFloor - 1'000);

  CHECK(g.gate.ask(large) == kWhole);  // holds the reserve
  CHECK(g.gate.ask(other) == 0);
  g.gate.done(large, kWhole, 60'000);
  CHECK(g.gate.ask(large) == kWhole);
  CHECK(g.gate.ask(other) == 0);
  g.gate.done(large, kWhole, 0);  // its line is whole
  CHECK(other.wakes == 1);
  CHECK(g.gate.ask(other) == kWhole);
}

TEST_CASE("read gate: the reserve goes from hand to hand") {
  Gate g(10'000);
  Reader readers[4];
  for (Reader& reader : readers) {
    REQUIRE(g.gate.ask(reader) != 0);
    g.gate.done(reader, kWhole, 50'000);
  }
  CHECK(g.gate.ask(readers[0]) == kWhole);
  for (std::size_t i = 1; i < 4; ++i) CHECK(g.gate.ask(readers[i]) == 0);
  for (std::size_t i = 0; i < 3; ++i) {
    if (i % 2 == 0) {
      g.gate.done(readers[i], kWhole, 0);
    } else {
      g.gate.leave(readers[i]);
    }
    REQUIRE(readers[i + 1].wakes == 1);
    REQUIRE(g.gate.ask(readers[i + 1]) == kWhole);
  }
  CHECK(g.gate.carry_bytes() == 50'000);
}

TEST_CASE("read gate: a reader that waits for carry does not keep the room from others") {
  Gate g(10'000);
  Reader holder;
  Reader half;
  Reader other;
  g.make_busy(other);
  REQUIRE(g.gate.ask(holder) == kWhole);
  g.gate.done(holder, kWhole, 9'000);
  REQUIRE(g.gate.ask(half) == kWhole);
  g.gate.done(half, kWhole, 9'000);
  REQUIRE(g.gate.ask(holder) == kWhole);

  g.budget.take(1000);
  CHECK(g.gate.ask(half) == 0);
  CHECK(g.gate.ask(other) == 0);
  g.budget.give_back(1000);
  CHECK(half.wakes == 1);
  CHECK(g.gate.ask(half) == 0);
  CHECK(other.wakes == 1);
  CHECK(g.gate.ask(other) == kFloor);
}

TEST_CASE("read gate: who does not wait for room reads on without it, and stands in no line") {
  Gate g;
  Reader impatient;
  Reader waiting;
  g.make_busy(impatient);
  g.make_busy(waiting);
  CHECK(g.gate.ask_without_waiting(impatient).has_room);
  g.gate.done(impatient, kWhole, 0);

  g.budget.take(1000);
  const auto grant = g.gate.ask_without_waiting(impatient);
  CHECK(grant.bytes_max == kWhole);
  CHECK_FALSE(grant.has_room);
  g.gate.done(impatient, kWhole, 0);
  CHECK(g.counters.budget_waits == 0);
  CHECK(g.gate.ask(waiting) == 0);
  g.budget.give_back(1000);
  CHECK(impatient.wakes == 0);
  CHECK(waiting.wakes == 1);
  // The room is promised to the one who waits.
  CHECK_FALSE(g.gate.ask_without_waiting(impatient).has_room);
  g.gate.done(impatient, kWhole, 0);
  REQUIRE(g.gate.ask(waiting) == kWhole);
  g.gate.done(waiting, kWhole, 0);
  CHECK(g.gate.ask_without_waiting(impatient).has_room);
}

TEST_CASE("read gate: a quiet reader that does not wait gets a little beyond the budget") {
  Gate g;
  Reader quiet;
  g.budget.take(1000);
  const auto grant = g.gate.ask_without_waiting(quiet);
  CHECK(grant.bytes_max == kQuiet);
  CHECK(grant.has_room);
  g.gate.done(quiet, 10, 0);
  g.budget.take(1000);
  CHECK_FALSE(g.gate.ask_without_waiting(quiet).has_room);
}

TEST_CASE("read gate: who does not wait for room does wait for memory for its half line") {
  Gate g(10'000);
  Reader holder;
  Reader half;
  REQUIRE(g.gate.ask(holder) == kWhole);
  g.gate.done(holder, kWhole, 9'000);
  REQUIRE(g.gate.ask(half) == kWhole);
  g.gate.done(half, kWhole, 9'000);
  REQUIRE(g.gate.ask(holder) == kWhole);
  CHECK(g.gate.ask_without_waiting(half).bytes_max == 0);
  g.gate.done(holder, 100, 0);
  CHECK(half.wakes > 0);
  CHECK(g.gate.ask_without_waiting(half).bytes_max == kWhole);
}
