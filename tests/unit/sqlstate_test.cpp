// What a lane is told to do about each kind of failure, and which words of the server it may log.
#include <catch2/catch.hpp>

#include "sink/sqlstate.hpp"

namespace sluice::sink {
namespace {

Action action(const char* sqlstate, const char* message = "") {
  return action_for({sqlstate, message, ""});
}

}  // namespace

TEST_CASE("sqlstate: a lost connection and a server that goes away ask for a new connection") {
  CHECK(action("") == Action::reconnect);
  CHECK(action("08006") == Action::reconnect);
  CHECK(action("08P01", "query_wait_timeout") == Action::reconnect);
  for (const char* state : {"57P01", "57P02", "57P03", "57P04", "57P05", "25P03"}) {
    CHECK(action(state) == Action::reconnect);
  }
}

TEST_CASE("sqlstate: a server that takes no writes asks for another host") {
  CHECK(action("25006") == Action::next_host);
}

TEST_CASE("sqlstate: what goes away by itself is tried again") {
  for (const char* state : {"40001", "40P01", "55P03"}) CHECK(action(state) == Action::retry);
  for (const char* state : {"53100", "53200", "53300"}) CHECK(action(state) == Action::back_off);
  CHECK(action("57014") == Action::halve_batch);
}

TEST_CASE("sqlstate: configuration errors hold") {
  for (const char* state :
       {"28P01", "28000", "3D000", "3F000", "42P01", "42703", "42501", "0A000", "XX000"}) {
    CHECK(action(state) == Action::hold);
  }
}

TEST_CASE("sqlstate: what the row is to blame for, and what nobody knows, is the row's") {
  for (const char* state :
       {"22P02", "22003", "23505", "23502", "54001", "P0001", "55000", "40002", "57000", "ZZZZZ"}) {
    CHECK(action(state) == Action::row);
  }
  CHECK(action("23514", "no partition of relation \"events\" found for row") == Action::row);
}

TEST_CASE("sqlstate: 42501 is the row's only where row-level security says it") {
  CHECK(action("42501", "permission denied for table events") == Action::hold);
  CHECK(action("42501", "new row violates row-level security policy for table \"events\"") ==
        Action::row);
}

TEST_CASE("sqlstate: words that may quote a row are not shown") {
  for (const char* state :
       {"22P02", "22021", "23505", "23514", "54000", "P0001", "42601", "XX000", "ZZZZZ"}) {
    CHECK_FALSE(shows_no_row(state));
  }
  for (const char* state : {"", "08006", "28P01", "3D000", "42P01", "42501", "42703", "53100",
                            "57P01", "40P01", "55P03", "25006"}) {
    CHECK(shows_no_row(state));
  }
}

}  // namespace sluice::sink
