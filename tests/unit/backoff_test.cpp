// The waits after failures, and the breaker that lets one lane try.
#include "sink/backoff.hpp"

#include <algorithm>
#include <catch2/catch.hpp>

#include "sink/breaker.hpp"

using sluice::sink::Backoff;
using sluice::sink::Breaker;
using std::chrono::milliseconds;

TEST_CASE("backoff: each delay lies between the least and three times the one before") {
  Backoff backoff(7, {milliseconds(100), milliseconds(5'000)});
  milliseconds last{100};
  bool reached_most = false;
  for (int i = 0; i < 1'000; ++i) {
    const milliseconds delay = backoff.next();
    CHECK(delay >= milliseconds(100));
    CHECK(delay <= std::min(milliseconds(5'000), 3 * last));
    reached_most = reached_most || delay == milliseconds(5'000);
    last = delay;
  }
  CHECK(reached_most);
}

TEST_CASE("backoff: success begins anew") {
  Backoff backoff(7);
  for (int i = 0; i < 100; ++i) (void)backoff.next();
  backoff.reset();
  CHECK(backoff.next() <= milliseconds(300));
}

TEST_CASE("backoff: lanes with other seeds do not knock together") {
  Backoff one(1);
  Backoff two(2);
  int equal = 0;
  for (int i = 0; i < 100; ++i) equal += one.next() == two.next() ? 1 : 0;
  CHECK(equal < 20);
}

TEST_CASE("breaker: while it is open one lane tries, until it got through") {
  Breaker breaker;
  CHECK(breaker.may_try(0));
  CHECK(breaker.may_try(1));
  CHECK_FALSE(breaker.is_probing(0));
  breaker.trip(0);
  CHECK(breaker.may_try(1));
  CHECK(breaker.is_probing(1));
  CHECK_FALSE(breaker.may_try(0));
  CHECK(breaker.may_try(1));
  breaker.reset();
  CHECK(breaker.may_try(0));
  CHECK_FALSE(breaker.is_probing(1));
}

TEST_CASE("breaker: a lane that failed or gave up lets another one try") {
  Breaker breaker;
  breaker.trip(0);
  REQUIRE(breaker.may_try(0));
  breaker.trip(1);  // a lane that was still connected: 0 goes on trying
  CHECK_FALSE(breaker.may_try(1));
  breaker.give_up(1);
  CHECK_FALSE(breaker.may_try(1));
  breaker.give_up(0);
  CHECK(breaker.may_try(1));
  breaker.trip(1);
  CHECK(breaker.may_try(0));
}
