// The byte budget: who waits for room is called once, and never in vain.
#include "spool/byte_budget.hpp"

#include <atomic>
#include <catch2/catch.hpp>
#include <thread>

using sluice::spool::ByteBudget;

TEST_CASE("byte budget: has room until its bytes are taken") {
  ByteBudget budget(100);
  budget.take(99);
  CHECK(budget.has_room());
  budget.take(1);
  CHECK_FALSE(budget.has_room());
  CHECK(budget.used_bytes() == 100);
  budget.give_back(1);
  CHECK(budget.has_room());
}

TEST_CASE("byte budget: the bound is soft by what is taken last") {
  ByteBudget budget(100);
  budget.take(1000);
  CHECK(budget.used_bytes() == 1000);
  CHECK_FALSE(budget.has_room());
}

TEST_CASE("byte budget: who asked for room is called once when there is some") {
  ByteBudget budget(100);
  int calls = 0;
  budget.on_room([&] { ++calls; });
  budget.take(150);
  REQUIRE(budget.want_room());
  budget.give_back(50);
  CHECK(calls == 0);  // 100 of 100 are still taken
  budget.give_back(1);
  CHECK(calls == 1);
  budget.give_back(99);
  CHECK(calls == 1);
}

TEST_CASE("byte budget: nobody is called who did not ask, or asked when there was room") {
  ByteBudget budget(100);
  int calls = 0;
  budget.on_room([&] { ++calls; });
  budget.take(100);
  budget.give_back(100);
  CHECK_FALSE(budget.want_room());
  budget.take(100);
  budget.give_back(100);
  CHECK(calls == 0);
}

TEST_CASE("byte budget: a wish for room beside the giving back of another thread is never lost") {
  ByteBudget budget(1);
  std::atomic<int> taken{0};  // what the other thread may give back
  std::atomic<int> calls{0};
  std::atomic<bool> stop{false};
  budget.on_room([&] { calls.fetch_add(1); });
  std::thread giver([&] {
    while (!stop.load()) {
      if (taken.load() == 0) {
        std::this_thread::yield();
        continue;
      }
      taken.fetch_sub(1);
      budget.give_back(1);
    }
  });

  int expected_calls = 0;
  for (int i = 0; i < 3'000; ++i) {
    budget.take(1);
    taken.fetch_add(1);
    if (!budget.want_room()) continue;
    ++expected_calls;
    while (calls.load() < expected_calls) std::this_thread::yield();
  }
  stop = true;
  giver.join();
  CHECK(calls.load() == expected_calls);
}
