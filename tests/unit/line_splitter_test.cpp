// The line splitter: whole lines come out the same however the bytes arrive.
#include "ingest/line_splitter.hpp"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

using sluice::ingest::Line;
using sluice::ingest::LineKind;
using sluice::ingest::LineSplitter;

namespace {

struct Seen {
  LineKind kind;
  std::string text;
  std::uint64_t number;

  bool operator==(const Seen&) const = default;
};

void feed(LineSplitter& splitter, std::string_view bytes, std::vector<Seen>& seen) {
  splitter.feed(bytes, [&](const Line& line) {
    seen.push_back({line.kind, std::string(line.text), line.number});
  });
}

std::vector<Seen> lines_of(std::string_view bytes, std::size_t line_bytes_max = 100) {
  LineSplitter splitter(line_bytes_max);
  std::vector<Seen> seen;
  feed(splitter, bytes, seen);
  return seen;
}

// What the splitter should say of a whole stream, written the plain way.
std::vector<Seen> expected_lines(std::string_view stream, std::size_t line_bytes_max) {
  std::vector<Seen> lines;
  for (std::size_t end; (end = stream.find('\n')) != std::string_view::npos;) {
    std::string text(stream.substr(0, end));
    stream.remove_prefix(end + 1);
    const std::uint64_t number = lines.size() + 1;
    if (text.size() > line_bytes_max) {
      lines.push_back({LineKind::too_long, "", number});
      continue;
    }
    if (!text.empty() && text.back() == '\r') text.pop_back();
    if (number == 1 && text.compare(0, 3, "\xEF\xBB\xBF") == 0) text.erase(0, 3);
    const bool blank = text.find_first_not_of(" \t") == std::string::npos;
    lines.push_back({blank ? LineKind::empty : LineKind::whole, blank ? "" : text, number});
  }
  return lines;
}

std::string random_stream(std::mt19937_64& random) {
  static const std::vector<std::string> kPieces = {
      "\n", "\n", "\r\n",         "\r",       " ",    "\t",
      "a",  "bc", "\xEF\xBB\xBF", "12345678", "\xEF", "0123456789abcdef"};
  std::string stream = random() % 2 == 0 ? "\xEF\xBB\xBF" : "";
  for (std::size_t i = random() % 60; i > 0; --i) stream += kPieces[random() % kPieces.size()];
  return stream;
}

std::uint64_t seed() {
  const char* given = std::getenv("SLUICE_TEST_SEED");
  return given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
}

}  // namespace

TEST_CASE("line splitter: lines inside the bytes come out without a copy") {
  const std::string bytes = "one\ntwo\nthr";
  LineSplitter splitter(100);
  std::vector<const char*> starts;
  splitter.feed(bytes, [&](const Line& line) { starts.push_back(line.text.data()); });
  CHECK(starts == std::vector<const char*>{bytes.data(), bytes.data() + 4});
  CHECK(splitter.carry_bytes() == 3);
}

TEST_CASE("line splitter: a line cut anywhere is put together") {
  LineSplitter splitter(100);
  std::vector<Seen> seen;
  for (const char* piece : {"{\"a\"", ":", "1}", "\n{}\n", "x"}) feed(splitter, piece, seen);
  CHECK(seen == std::vector<Seen>{{LineKind::whole, "{\"a\":1}", 1}, {LineKind::whole, "{}", 2}});
  CHECK(splitter.finish());
}

TEST_CASE("line splitter: one CR before the LF goes, others stay") {
  CHECK(lines_of("a\r\nb\r\r\nc\rd\n") == std::vector<Seen>{{LineKind::whole, "a", 1},
                                                            {LineKind::whole, "b\r", 2},
                                                            {LineKind::whole, "c\rd", 3}});
}

TEST_CASE("line splitter: blank lines are empty and count") {
  CHECK(lines_of("\n \t\n\r\nx\n") == std::vector<Seen>{{LineKind::empty, "", 1},
                                                        {LineKind::empty, "", 2},
                                                        {LineKind::empty, "", 3},
                                                        {LineKind::whole, "x", 4}});
}

TEST_CASE("line splitter: a byte order mark goes at the connection's start only") {
  CHECK(lines_of("\xEF\xBB\xBFx\n\xEF\xBB\xBFy\n") ==
        std::vector<Seen>{{LineKind::whole, "x", 1}, {LineKind::whole, "\xEF\xBB\xBFy", 2}});
  CHECK(lines_of("\xEF\xBB\xBF\n") == std::vector<Seen>{{LineKind::empty, "", 1}});
}

TEST_CASE("line splitter: a line of exactly the limit passes, one byte more does not") {
  CHECK(lines_of("12345\n123456\n1\n", 5) == std::vector<Seen>{{LineKind::whole, "12345", 1},
                                                               {LineKind::too_long, "", 2},
                                                               {LineKind::whole, "1", 3}});
}

TEST_CASE("line splitter: a line far too long is told once and takes no memory") {
  LineSplitter splitter(1000);
  std::vector<Seen> seen;
  const std::string piece(999, 'x');
  for (int i = 0; i < 100'000; ++i) {
    feed(splitter, piece, seen);
    REQUIRE(splitter.carry_bytes() <= 1000);
  }
  CHECK(splitter.carry_bytes() == 0);
  CHECK(splitter.in_line());
  CHECK(seen.empty());
  feed(splitter, "\nnext\n", seen);
  CHECK(seen == std::vector<Seen>{{LineKind::too_long, "", 1}, {LineKind::whole, "next", 2}});
  CHECK_FALSE(splitter.finish());
}

TEST_CASE("line splitter: a stream that ends in a line that is too long ends in a partial line") {
  LineSplitter splitter(3);
  std::vector<Seen> seen;
  feed(splitter, "ok\n12345", seen);
  CHECK(seen.size() == 1);
  CHECK(splitter.finish());
  CHECK_FALSE(splitter.finish());
}

TEST_CASE("line splitter: any cut of the stream gives the same lines") {
  const std::uint64_t start_seed = seed();
  for (std::uint64_t run = 0; run < 3000; ++run) {
    const std::uint64_t run_seed = start_seed + run;
    std::mt19937_64 random(run_seed);
    const std::string stream = random_stream(random);
    const std::size_t line_bytes_max = 8 + random() % 24;

    LineSplitter splitter(line_bytes_max);
    std::vector<Seen> seen;
    std::string_view rest = stream;
    while (!rest.empty()) {
      // A fresh buffer for each piece: text that pointed into an earlier one would show.
      const std::string piece(rest.substr(0, 1 + random() % 12));
      rest.remove_prefix(piece.size());
      feed(splitter, piece, seen);
    }
    INFO("replay with SLUICE_TEST_SEED=" << run_seed << ", stream " << stream);
    REQUIRE(seen == expected_lines(stream, line_bytes_max));
    REQUIRE(splitter.finish() == (!stream.empty() && stream.back() != '\n'));
  }
}
