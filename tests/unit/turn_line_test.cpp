// The line of connections that have more to read: one turn at a time.
#include "ingest/turn_line.hpp"

#include <catch2/catch.hpp>

using sluice::ingest::TurnLine;

namespace {

struct Waiter final : TurnLine::Waiter {
  void take_turn() override { ++turns; }
  int turns = 0;
};

}  // namespace

TEST_CASE("turn line: each call of next gives one turn, in the order of entering") {
  int asked = 0;
  TurnLine line([&] { ++asked; });
  Waiter a;
  Waiter b;
  line.enter(a);
  line.enter(b);
  CHECK(asked == 1);
  CHECK(a.turns == 0);
  line.next();
  CHECK(a.turns == 1);
  CHECK(b.turns == 0);
  CHECK(asked == 2);
  line.enter(a);  // behind b
  CHECK(asked == 2);
  line.next();
  CHECK(a.turns == 1);
  CHECK(b.turns == 1);
  line.next();
  CHECK(a.turns == 2);
  CHECK(asked == 3);
  line.enter(b);
  CHECK(asked == 4);
}

TEST_CASE("turn line: who has left gets no turn, and a call for nobody is harmless") {
  int asked = 0;
  TurnLine line([&] { ++asked; });
  Waiter a;
  line.enter(a);
  line.leave(a);
  line.next();
  CHECK(a.turns == 0);
  line.enter(a);
  CHECK(asked == 2);
  line.next();
  CHECK(a.turns == 1);
}
