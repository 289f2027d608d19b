// Unacked lines, kept and sent again.
#include "daemon/line_window.hpp"

#include <catch2/catch.hpp>
#include <random>
#include <vector>

using namespace sluice::daemon;

namespace {

// Everything that is to be sent, in pieces of at most `bytes`.
std::string send_all(LineWindow& window, std::size_t bytes = 5) {
  std::string out;
  while (!window.unsent().empty()) {
    const std::string_view piece = window.unsent().substr(0, bytes);
    out += piece;
    window.sent(piece.size());
  }
  return out;
}

}  // namespace

TEST_CASE("line window: empty lines are counted that are not acked") {
  LineWindow window(1000);
  CHECK(window.blank_unacked() == 0);
  window.append("one\n\n \t\r\nfour\n\n");
  window.append("\nseven\n");
  CHECK(window.blank_unacked() == 4);
  window.acked(2);
  CHECK(window.blank_unacked() == 3);
  window.acked(6);
  CHECK(window.blank_unacked() == 0);
}

TEST_CASE("line window: after a loss everything that is not acked is sent again") {
  LineWindow window(1000);
  window.append("one\ntwo\nthree\n");
  window.append("four\n");
  CHECK(send_all(window) == "one\ntwo\nthree\nfour\n");
  window.acked(2);
  window.rewind();
  CHECK(send_all(window) == "three\nfour\n");
  window.acked(3);
  window.append("five\n");
  CHECK(send_all(window) == "five\n");
  window.rewind();
  CHECK(send_all(window) == "four\nfive\n");
  window.acked(5);
  CHECK(window.all_acked());
  window.rewind();
  CHECK(send_all(window).empty());
}

TEST_CASE("line window: it has room again when lines are acked") {
  LineWindow window(8);
  window.append("one\n");
  CHECK(window.has_room());
  window.append("two\n");
  CHECK_FALSE(window.has_room());
  CHECK(send_all(window) == "one\ntwo\n");
  window.acked(1);
  CHECK(window.has_room());
}

TEST_CASE("line window: an ack from the past or the future changes nothing") {
  LineWindow window(1000);
  window.append("one\ntwo\n");
  CHECK(send_all(window) == "one\ntwo\n");
  window.acked(2);
  window.acked(1);
  CHECK(window.acked() == 2);
  window.acked(99);
  CHECK(window.acked() == 2);
  window.append("three\n");
  CHECK(send_all(window) == "three\n");
}

TEST_CASE("line window: whatever is lost when, each line arrives in its order") {
  const auto seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937 random(seed);
  std::vector<std::string> arrived;  // as a daemon has them that knows each number once
  LineWindow window(200);
  const std::uint64_t total = 500;
  std::uint64_t next = 1;
  std::uint64_t connection_line = 1;  // the number of the next line on this connection
  std::string open;
  while (!window.all_acked() || next <= total) {
    const auto choice = random() % 10;
    if (choice < 3 && next <= total && window.has_room()) {
      window.append(std::to_string(next) + "\n" + std::to_string(next + 1) + "\n");
      next += 2;
    } else if (choice < 8) {
      const std::string_view piece = window.unsent().substr(0, random() % 7);
      for (const char c : piece) {
        if (c != '\n') {
          open += c;
          continue;
        }
        if (connection_line++ > arrived.size()) arrived.push_back(open);
        open.clear();
      }
      if (!piece.empty()) window.sent(piece.size());
    } else if (choice == 8) {
      // A daemon acks what it read on this connection.
      window.acked(window.acked() + random() % (connection_line - window.acked()));
    } else {
      open.clear();
      window.rewind();
      connection_line = window.acked() + 1;
    }
  }
  REQUIRE(arrived.size() == total);
  for (std::size_t i = 0; i < total; ++i) CHECK(arrived[i] == std::to_string(i + 1));
}
