// The doorbell: no ring is lost, and ringing somebody who is awake costs no system call.
#include "daemon/wake_event.hpp"

#include <poll.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

namespace sluice::daemon {
namespace {

using namespace std::chrono_literals;

bool readable(const WakeEvent& bell) {
  pollfd poller{.fd = bell.fd(), .events = POLLIN, .revents = 0};
  return ::poll(&poller, 1, 0) == 1;
}

TEST_CASE("wake event: a ring before sleeping makes the sleeper look for work instead") {
  WakeEvent bell;
  bell.ring();
  CHECK_FALSE(bell.about_to_sleep());
  CHECK(bell.about_to_sleep());
}

TEST_CASE("wake event: ringing somebody who is awake writes nothing to the descriptor") {
  WakeEvent bell;
  bell.ring();
  bell.ring();
  CHECK_FALSE(readable(bell));
}

TEST_CASE("wake event: ringing a sleeper makes the descriptor readable until it is awake") {
  WakeEvent bell;
  REQUIRE(bell.about_to_sleep());
  CHECK_FALSE(readable(bell));
  bell.ring();
  CHECK(readable(bell));
  bell.awake();
  CHECK_FALSE(readable(bell));
}

TEST_CASE("wake event: a sleeper that woke by itself sleeps again until somebody rings") {
  WakeEvent bell;
  REQUIRE(bell.about_to_sleep());
  bell.awake();
  REQUIRE(bell.about_to_sleep());
  bell.ring();
  CHECK(readable(bell));
}

TEST_CASE("wake event: a wait with no time left comes back, and the next ring is heard") {
  WakeEvent bell;
  bell.wait(0ms);
  bell.ring();
  bell.wait(std::nullopt);
  CHECK(bell.about_to_sleep());
}

TEST_CASE("wake event: two threads that hand work to each other 20000 times miss no ring") {
  constexpr std::uint64_t kRounds = 20000;
  WakeEvent there;
  WakeEvent back;
  // Relaxed on purpose: only the bells order them.
  std::atomic<std::uint64_t> asked{0};
  std::atomic<std::uint64_t> answered{0};

  std::thread answerer([&] {
    std::uint64_t done = 0;
    while (done < kRounds) {
      if (asked.load(std::memory_order_relaxed) == done) {
        there.wait(std::nullopt);
        continue;
      }
      ++done;
      answered.store(done, std::memory_order_relaxed);
      back.ring();
    }
  });
  for (std::uint64_t round = 1; round <= kRounds; ++round) {
    asked.store(round, std::memory_order_relaxed);
    there.ring();
    while (answered.load(std::memory_order_relaxed) < round) back.wait(std::nullopt);
  }
  answerer.join();
  CHECK(answered.load() == kRounds);
}

TEST_CASE("wake event: what was written before a ring is seen after it, by many ringers") {
  constexpr int kRingers = 3;
  constexpr int kEach = 5000;
  WakeEvent bell;
  std::atomic<int> given{0};
  std::vector<std::thread> ringers;
  for (int i = 0; i < kRingers; ++i) {
    ringers.emplace_back([&] {
      for (int n = 0; n < kEach; ++n) {
        given.fetch_add(1, std::memory_order_relaxed);
        bell.ring();
      }
    });
  }
  while (given.load(std::memory_order_relaxed) < kRingers * kEach) bell.wait(std::nullopt);
  for (std::thread& ringer : ringers) ringer.join();
  CHECK(given.load() == kRingers * kEach);
}

}  // namespace
}  // namespace sluice::daemon
