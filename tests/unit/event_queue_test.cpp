// The queue from the connections to the journal: order, turns, bytes.
#include "ingest/event_queue.hpp"

#include <catch2/catch.hpp>
#include <memory>
#include <thread>
#include <vector>

#include "tests/unit/event_fixture.hpp"

using sluice::ingest::AckLedger;
using sluice::ingest::AckStage;
using sluice::ingest::EventQueue;
using sluice::ingest::OnFull;
using sluice::ingest::Origin;
using sluice::spool::ByteBudget;
using sluice::spool::Chunk;
using sluice::tests::chunk_of;
using sluice::tests::numbers_in;

namespace {

std::uint64_t first_number(const Chunk& chunk) {
  return numbers_in(chunk).at(0);
}

}  // namespace

TEST_CASE("event queue: one producer's chunks come out in order, and each push rings") {
  ByteBudget budget(1'000'000);
  int rings = 0;
  EventQueue queue([&] { ++rings; });
  const auto producer = queue.make_producer();
  Chunk chunk;
  Origin origin;
  CHECK_FALSE(queue.pop(chunk, origin));
  for (std::uint64_t i = 0; i < 100; ++i) queue.push(*producer, chunk_of(budget, i, 1), {});
  CHECK(rings == 100);
  for (std::uint64_t i = 0; i < 100; ++i) {
    REQUIRE(queue.pop(chunk, origin));
    CHECK(first_number(chunk) == i);
  }
  CHECK_FALSE(queue.pop(chunk, origin));
}

TEST_CASE("event queue: a quiet producer's chunk does not wait behind a busy one's") {
  ByteBudget budget(100'000'000);
  EventQueue queue([] {});
  constexpr std::uint64_t kBusy = 5;
  std::vector<std::unique_ptr<EventQueue::Producer>> busy;
  for (std::uint64_t i = 0; i < kBusy; ++i) busy.push_back(queue.make_producer());
  const auto quiet = queue.make_producer();
  for (std::uint64_t i = 0; i < 500; ++i) {
    queue.push(*busy[i % kBusy], chunk_of(budget, i, 300), {});
  }

  Chunk chunk;

  Origin origin;
  for (std::uint64_t round = 0; round < 10; ++round) {
    queue.push(*quiet, chunk_of(budget, 1'000'000 + round, 1), {});
    std::uint64_t waited = 0;
    do {
      REQUIRE(queue.pop(chunk, origin));
      ++waited;
    } while (first_number(chunk) < 1'000'000);
    CHECK(first_number(chunk) == 1'000'000 + round);
    CHECK(waited <= 2 * kBusy + 1);
  }
}

TEST_CASE("event queue: a small chunk of a quiet producer goes ahead of all busy ones'") {
  ByteBudget budget(100'000'000);
  EventQueue queue([] {});
  std::vector<std::unique_ptr<EventQueue::Producer>> busy;
  for (std::uint64_t i = 0; i < 10; ++i) {
    busy.push_back(queue.make_producer());
    for (int n = 0; n < 10; ++n) queue.push(*busy[i], chunk_of(budget, i, 500), {});
  }
  const auto quiet = queue.make_producer();
  Chunk chunk;
  Origin origin;
  for (std::uint64_t round = 0; round < 10; ++round) {
    REQUIRE(queue.pop(chunk, origin));
    queue.push(*quiet, chunk_of(budget, 1'000'000 + round, 1), {});
    REQUIRE(queue.pop(chunk, origin));
    CHECK(first_number(chunk) == 1'000'000 + round);
  }
}

TEST_CASE("event queue: a quiet producer that had to wait catches up ahead of all busy ones") {
  ByteBudget budget(100'000'000);
  EventQueue queue([] {});
  std::vector<std::unique_ptr<EventQueue::Producer>> busy;
  for (std::uint64_t i = 0; i < 10; ++i) {
    busy.push_back(queue.make_producer());
    for (int n = 0; n < 10; ++n) queue.push(*busy[i], chunk_of(budget, i, 500), {});
  }
  const auto quiet = queue.make_producer();
  constexpr std::uint64_t kBacklog = 50;
  for (std::uint64_t i = 0; i < kBacklog; ++i) {
    queue.push(*quiet, chunk_of(budget, 1'000'000 + i, 1), {});
  }
  Chunk chunk;
  Origin origin;
  for (std::uint64_t i = 0; i < kBacklog; ++i) {
    REQUIRE(queue.pop(chunk, origin));
    CHECK(first_number(chunk) == 1'000'000 + i);
  }
}

TEST_CASE("event queue: small chunks without end do not keep the large ones waiting") {
  ByteBudget budget(100'000'000);
  EventQueue queue([] {});
  const auto small = queue.make_producer();
  const auto large = queue.make_producer();
  std::size_t small_bytes = 0;
  std::size_t large_bytes = 0;
  Chunk chunk;
  Origin origin;
  for (int i = 0; i < 100; ++i) queue.push(*large, chunk_of(budget, 1, 500), {});
  // Never more than one waits, so that each comes anew.
  for (int i = 0; i < 10'000; ++i) {
    queue.push(*small, chunk_of(budget, 0, 5), {});
    for (bool is_small = false; !is_small;) {
      REQUIRE(queue.pop(chunk, origin));
      is_small = first_number(chunk) == 0;
      (is_small ? small_bytes : large_bytes) += chunk.bytes().size();
    }
  }
  CHECK(large_bytes > small_bytes / 2);
}

TEST_CASE("event queue: small and large chunks of one producer stay in order") {
  ByteBudget budget(100'000'000);
  EventQueue queue([] {});
  const auto producer = queue.make_producer();
  Chunk chunk;
  Origin origin;
  std::uint64_t pushed = 0;
  std::uint64_t popped = 0;
  for (int round = 0; round < 200; ++round) {
    for (int n = 0; n < round % 4; ++n, ++pushed) {
      queue.push(*producer, chunk_of(budget, pushed, pushed % 3 == 0 ? 500 : 1), {});
    }
    for (int n = 0; n < round % 3 && popped < pushed; ++n, ++popped) {
      REQUIRE(queue.pop(chunk, origin));
      REQUIRE(first_number(chunk) == popped);
    }
  }
  CHECK(popped > 150);
}

TEST_CASE("event queue: producers with nothing to give do not stop the turns of the others") {
  ByteBudget budget(100'000'000);
  EventQueue queue([] {});
  constexpr std::uint64_t kBusy = 4;
  constexpr std::uint64_t kChunks = 100;
  Chunk chunk;
  Origin origin;
  std::vector<std::unique_ptr<EventQueue::Producer>> idle;
  std::vector<std::unique_ptr<EventQueue::Producer>> busy;
  for (std::uint64_t i = 0; i < kBusy; ++i) {
    idle.push_back(queue.make_producer());
    busy.push_back(queue.make_producer());
    // Since a large chunk they have a place in the turns, whether they push on or not.
    queue.push(*idle[i], chunk_of(budget, i, 500), {});
    queue.push(*busy[i], chunk_of(budget, i, 500), {});
  }
  while (queue.pop(chunk, origin)) continue;
  for (std::uint64_t i = 0; i < kBusy; ++i) {
    for (std::uint64_t n = 0; n < kChunks; ++n) queue.push(*busy[i], chunk_of(budget, i, 100), {});
  }
  std::vector<std::uint64_t> taken(kBusy);
  for (std::uint64_t i = 0; i < kBusy * kChunks / 2; ++i) {
    REQUIRE(queue.pop(chunk, origin));
    ++taken[first_number(chunk)];
  }
  CAPTURE(taken);
  for (const std::uint64_t count : taken) CHECK(count > kChunks / 4);
}

TEST_CASE("event queue: chunks of those that do not wait can be taken alone, in order") {
  ByteBudget budget(10'000'000);
  EventQueue queue([] {});
  const auto patient = queue.make_producer();
  const auto rejected = queue.make_producer();
  const auto dropped = queue.make_producer();
  Origin reject;
  reject.on_full = OnFull::reject;
  Origin drop;
  drop.on_full = OnFull::drop;
  for (std::uint64_t i = 0; i < 10; ++i) {
    queue.push(*patient, chunk_of(budget, i, i % 2 == 0 ? 1 : 500), {});
    queue.push(*rejected, chunk_of(budget, 1'000'000 + i, i % 3 == 0 ? 1 : 500), reject);
    queue.push(*dropped, chunk_of(budget, 2'000'000 + i, 1), drop);
  }
  std::uint64_t next_rejected = 1'000'000;
  std::uint64_t next_dropped = 2'000'000;
  Chunk chunk;
  Origin origin;
  while (queue.pop_impatient(chunk, origin)) {
    const bool is_rejected = origin.on_full == OnFull::reject;
    CHECK(first_number(chunk) == (is_rejected ? next_rejected++ : next_dropped++));
  }
  CHECK(next_rejected == 1'000'010);
  CHECK(next_dropped == 2'000'010);
  for (std::uint64_t i = 0; i < 10; ++i) {
    REQUIRE(queue.pop(chunk, origin));
    CHECK(origin.on_full == OnFull::wait);
    CHECK(first_number(chunk) == i);
  }
  CHECK_FALSE(queue.pop(chunk, origin));
}

TEST_CASE("event queue: those that wait and those that do not are taken in turn") {
  ByteBudget budget(100'000'000);
  EventQueue queue([] {});
  const auto patient = queue.make_producer();
  const auto impatient = queue.make_producer();
  Origin reject;
  reject.on_full = OnFull::reject;
  for (std::uint64_t i = 0; i < 100; ++i) {
    queue.push(*patient, chunk_of(budget, i, 200), {});
    queue.push(*impatient, chunk_of(budget, i, 200), reject);
  }
  int rejects = 0;
  Chunk chunk;
  Origin origin;
  for (int i = 0; i < 100; ++i) {
    REQUIRE(queue.pop(chunk, origin));
    rejects += origin.on_full == OnFull::reject ? 1 : 0;
  }
  CHECK(rejects == 50);
}

TEST_CASE("event queue: a chunk comes out with the origin that it was pushed with") {
  ByteBudget budget(1'000'000);
  EventQueue queue([] {});
  const auto producer = queue.make_producer();
  Origin pushed;
  pushed.ledger = std::make_shared<AckLedger>(AckStage::durable, [] {});
  pushed.ticket = 3;
  pushed.first_line = 17;
  pushed.producer = sluice::spool::ProducerKey{1, 2};
  pushed.line_offset = 99;
  queue.push(*producer, chunk_of(budget, 1, 1), pushed);
  Chunk chunk;
  Origin popped;
  REQUIRE(queue.pop(chunk, popped));
  CHECK(popped.ledger == pushed.ledger);
  CHECK(popped.ticket == 3);
  CHECK(popped.first_line == 17);
  CHECK(popped.producer == pushed.producer);
  CHECK(popped.line_offset == 99);
  queue.push(*producer, chunk_of(budget, 2, 1), {});
  REQUIRE(queue.pop(chunk, popped));
  CHECK_FALSE(popped.ledger);  // nothing is left of the one before
}

TEST_CASE("event queue: what a producer pushed outlives it") {
  ByteBudget budget(1'000'000);
  EventQueue queue([] {});
  queue.push(*queue.make_producer(), chunk_of(budget, 7, 2), {});
  Chunk chunk;
  Origin origin;
  REQUIRE(queue.pop(chunk, origin));
  CHECK(numbers_in(chunk) == std::vector<std::uint64_t>{7, 8});
}

TEST_CASE("event queue: chunks give their bytes back, taken or not") {
  ByteBudget budget(1'000'000);
  {
    EventQueue queue([] {});
    const auto producer = queue.make_producer();
    for (std::uint64_t i = 0; i < 10; ++i) queue.push(*producer, chunk_of(budget, i, 1), {});
    const std::size_t all = budget.used_bytes();
    {
      Chunk chunk;
      Origin origin;
      REQUIRE(queue.pop(chunk, origin));
      REQUIRE(queue.pop(chunk, origin));  // the first is freed here
      CHECK(budget.used_bytes() == all / 10 * 9);
    }
    CHECK(budget.used_bytes() == all / 10 * 8);
  }
  CHECK(budget.used_bytes() == 0);
}

TEST_CASE("event queue: two threads push while a third takes, and each one's order holds") {
  constexpr std::uint64_t kChunks = 3'000;
  ByteBudget budget(100'000'000);
  EventQueue queue([] {});
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < 2; ++i) {
    threads.emplace_back([&, i] {
      const auto producer = queue.make_producer();
      for (std::uint64_t n = 0; n < kChunks; ++n) {
        queue.push(*producer, chunk_of(budget, i << 32 | n, 1), {});
      }
    });
  }
  std::uint64_t next[2] = {0, 0};
  bool in_order = true;
  for (std::uint64_t taken = 0; taken < 2 * kChunks;) {
    Chunk chunk;
    Origin origin;
    if (!queue.pop(chunk, origin)) {
      std::this_thread::yield();
      continue;
    }
    ++taken;
    const std::uint64_t number = first_number(chunk);
    in_order = in_order && (number & 0xffffffff) == next[number >> 32]++;
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(in_order);
  CHECK(next[0] == kChunks);
  CHECK(next[1] == kChunks);
  CHECK(budget.used_bytes() == 0);
}
