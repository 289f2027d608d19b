// What a connection is told of its lines: never more than is done with, in whatever order the
// chunks end.
#include "ingest/ack_ledger.hpp"

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <random>
#include <thread>
#include <vector>

using namespace sluice::ingest;
using Lines = AckLedger::Lines;

namespace {

struct Fixture {
  explicit Fixture(AckStage stage = AckStage::durable) : ledger(stage, [this] { ++told; }) {}

  std::uint64_t acked() { return ledger.take_progress().acked; }

  int told = 0;
  AckLedger ledger;
};

}  // namespace

TEST_CASE("ack ledger: lines are acked from the first on, in whatever order their chunks end") {
  Fixture f;
  const auto first = f.ledger.push(3);
  const auto second = f.ledger.push(5);
  const auto third = f.ledger.push(9);
  f.ledger.handled(9);
  CHECK(f.acked() == 0);
  f.ledger.durable(third, 4, 0);
  f.ledger.durable(second, 2, 0);
  CHECK(f.acked() == 0);
  CHECK(f.told == 0);
  CHECK(f.ledger.outstanding() == 3);
  f.ledger.durable(first, 2, 1);
  CHECK(f.told == 1);
  CHECK(f.ledger.outstanding() == 0);
  const AckLedger::Progress progress = f.ledger.take_progress();
  CHECK(progress.acked == 9);
  CHECK(progress.stored == 8);
  CHECK(progress.duplicates == 1);
}

TEST_CASE("ack ledger: lines that are in no chunk are acked with the chunks before them") {
  Fixture f;
  f.ledger.handled(2);  // refused, or empty
  CHECK(f.told == 1);
  CHECK(f.acked() == 2);
  const auto ticket = f.ledger.push(4);
  f.ledger.handled(7);
  CHECK(f.told == 1);
  CHECK(f.acked() == 2);
  f.ledger.durable(ticket, 2, 0);
  CHECK(f.told == 2);
  CHECK(f.acked() == 7);
}

TEST_CASE("ack ledger: the acked line never goes back") {
  Fixture f;
  f.ledger.handled(10);
  CHECK(f.acked() == 10);
  const auto ticket = f.ledger.push(12);
  CHECK(f.acked() == 10);
  f.ledger.durable(ticket, 1, 0);  // before the connection has said how far it is
  CHECK(f.acked() == 12);
  f.ledger.handled(12);
  CHECK(f.acked() == 12);
}

TEST_CASE("ack ledger: who asked for committed is acked when the rows are") {
  Fixture f(AckStage::committed);
  const auto ticket = f.ledger.push(2);
  f.ledger.handled(2);
  f.ledger.durable(ticket, 1, 1);
  CHECK(f.told == 0);
  CHECK(f.acked() == 0);
  f.ledger.committed(ticket);
  CHECK(f.told == 1);
  const AckLedger::Progress progress = f.ledger.take_progress();
  CHECK(progress.acked == 2);
  CHECK(progress.stored == 1);
  CHECK(progress.duplicates == 1);
}

TEST_CASE("ack ledger: chunks that are turned away are told line by line, once, and acked") {
  Fixture f;
  const auto first = f.ledger.push(3);
  const auto second = f.ledger.push(6);
  f.ledger.handled(6);
  const std::vector<Lines> lines = {{4, 4}, {6, 6}};
  CHECK_FALSE(f.ledger.has_turned_away());
  f.ledger.turned_away(second, lines, Refusal::full);
  CHECK(f.ledger.has_turned_away());
  CHECK(f.told == 1);
  AckLedger::Progress progress = f.ledger.take_progress();
  CHECK(progress.acked == 0);
  REQUIRE(progress.nacks.size() == 2);
  CHECK(progress.nacks[0].first_line == 4);
  CHECK(progress.nacks[0].last_line == 4);
  CHECK(progress.nacks[1].first_line == 6);
  CHECK(progress.nacks[1].code == Refusal::full);
  f.ledger.durable(first, 3, 0);
  progress = f.ledger.take_progress();
  CHECK(progress.acked == 6);
  CHECK(progress.nacks.empty());
  CHECK(progress.stored == 3);
}

TEST_CASE("ack ledger: refused lines that follow each other take one place") {
  Fixture f;
  for (std::uint64_t line = 1; line <= 1'000; ++line) {
    const Lines run{line, line};
    f.ledger.turned_away(f.ledger.push(line), {&run, 1}, Refusal::full);
  }
  const auto nacks = f.ledger.take_progress().nacks;
  REQUIRE(nacks.size() == 1);
  CHECK(nacks[0].first_line == 1);
  CHECK(nacks[0].last_line == 1'000);
}

TEST_CASE("ack ledger: it tells once until the progress is taken") {
  Fixture f;
  for (std::uint64_t line = 1; line <= 5; ++line) f.ledger.durable(f.ledger.push(line), 1, 0);
  CHECK(f.told == 1);
  CHECK(f.acked() == 5);
  f.ledger.durable(f.ledger.push(6), 1, 0);
  CHECK(f.told == 2);
}

TEST_CASE("ack ledger: two threads end tickets while a third hands them out and reads") {
  constexpr std::uint64_t kTickets = 20'000;
  std::atomic<bool> told{false};
  AckLedger ledger(AckStage::committed, [&] { told = true; });
  std::atomic<std::uint64_t> durable{0};    // tickets up to here are out
  std::atomic<std::uint64_t> committed{0};  // tickets up to here were durable
  std::thread journal([&] {
    for (std::uint64_t ticket = 1; ticket <= kTickets; ++ticket) {
      while (durable < ticket) std::this_thread::yield();
      ledger.durable(ticket, 1, 0);
      committed = ticket;
    }
  });
  std::thread sink([&] {
    for (std::uint64_t ticket = 1; ticket <= kTickets; ++ticket) {
      while (committed < ticket) std::this_thread::yield();
      ledger.committed(ticket);
    }
  });
  std::uint64_t acked = 0;
  bool in_order = true;
  for (std::uint64_t line = 1; acked < kTickets;) {
    if (line <= kTickets) {
      durable = ledger.push(line);
      ledger.handled(line++);
    }
    if (!told.exchange(false)) {
      if (line > kTickets) std::this_thread::yield();
      continue;
    }
    const auto progress = ledger.take_progress();
    in_order = in_order && progress.acked >= acked && progress.acked <= committed + 1;
    acked = progress.acked;
  }
  journal.join();
  sink.join();
  CHECK(in_order);
  CHECK(ledger.take_progress().stored == kTickets);
}
