// The ids that the daemon gives: UUIDv7 that sort as they were given.
#include "ingest/id_generator.hpp"

#include <catch2/catch.hpp>
#include <random>

using sluice::ingest::IdGenerator;
using sluice::spool::Uuid;

namespace {

constexpr std::int64_t kNowUs = 1'767'225'600'123'456;

std::uint64_t milliseconds_of(const Uuid& id) {
  std::uint64_t ms = 0;
  for (unsigned i = 0; i < 6; ++i) ms = ms << 8 | id.bytes[i];
  return ms;
}

}  // namespace

TEST_CASE("id generator: an id has version 7, the RFC's variant and the clock's milliseconds") {
  IdGenerator ids(1);
  for (int i = 0; i < 1000; ++i) {
    const Uuid id = ids.next(kNowUs);
    CHECK(id.bytes[6] >> 4 == 7);
    CHECK(id.bytes[8] >> 6 == 2);
    CHECK(milliseconds_of(id) == kNowUs / 1000);
  }
}

TEST_CASE("id generator: ids sort as they were given, whatever the clock does") {
  const std::uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  IdGenerator ids(seed);
  std::mt19937_64 random(seed);
  std::int64_t now_us = kNowUs;
  Uuid last{};
  for (int i = 0; i < 20'000; ++i) {
    now_us += static_cast<std::int64_t>(random() % 2001) - 1000;
    if (random() % 100 == 0) now_us -= 3'600'000'000;
    if (random() % 100 == 0) now_us += 3'600'000'000;
    const Uuid id = ids.next(now_us);
    if (!(last < id)) FAIL("id " << i << " does not sort behind the one before");
    last = id;
  }
}

TEST_CASE("id generator: a clock that goes back goes on with the last millisecond") {
  IdGenerator ids(1);
  const Uuid first = ids.next(kNowUs);
  const Uuid second = ids.next(kNowUs - 3'600'000'000);
  CHECK(milliseconds_of(second) == milliseconds_of(first));
  CHECK(first < second);
  CHECK(milliseconds_of(ids.next(kNowUs + 1000)) == kNowUs / 1000 + 1);
}

TEST_CASE("id generator: other seeds give other ids") {
  CHECK(IdGenerator(1).next(kNowUs) != IdGenerator(2).next(kNowUs));
  CHECK(IdGenerator(1).next(kNowUs) == IdGenerator(1).next(kNowUs));
}

TEST_CASE("id generator: a used-up counter goes on with the next millisecond", "[.long]") {
  IdGenerator ids(1);
  Uuid last = ids.next(kNowUs);
  const std::uint64_t first_ms = milliseconds_of(last);
  for (int i = 0; i < 1 << 26; ++i) {
    const Uuid id = ids.next(kNowUs);
    if (!(last < id)) FAIL("id " << i << " does not sort behind the one before");
    last = id;
  }
  CHECK(milliseconds_of(last) == first_ms + 1);
}
