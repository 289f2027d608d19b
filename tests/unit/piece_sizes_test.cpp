#include "sink/piece_sizes.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <random>
#include <set>
#include <vector>

using sluice::sink::PieceSizes;

namespace {

// Sends rows in batches, as a lane does, and counts how often a row is sent on average.
struct Sending {
  std::set<std::uint64_t> bad;
  bool tells;
  std::uint64_t batch_rows;
  std::uint64_t sent = 0;
  std::uint64_t pieces = 0;
  std::set<std::uint64_t> found{};

  void run(std::uint64_t rows) {
    PieceSizes sizes(10 * batch_rows);
    for (std::uint64_t at = 0; at < rows;) {
      if (found.contains(at)) {
        ++at;
        continue;
      }
      std::vector<std::uint64_t> piece;
      const std::uint64_t most = sizes.in_pieces() ? sizes.next() : batch_rows;
      std::uint64_t next = at;
      for (; next < rows && piece.size() < most; ++next) {
        if (!found.contains(next)) piece.push_back(next);
      }
      sent += piece.size();
      ++pieces;
      const auto first_bad = std::find_if(piece.begin(), piece.end(),
                                          [&](std::uint64_t row) { return bad.contains(row); });
      if (first_bad == piece.end()) {
        sizes.passed(piece.size());
        at = next;
      } else if (piece.size() == 1) {
        found.insert(piece[0]);
        sizes.found();
      } else {
        const auto row = static_cast<std::uint64_t>(first_bad - piece.begin()) + 1;
        sizes.refused(piece.size(), tells ? row : 0);
      }
    }
  }
};

}  // namespace

TEST_CASE("piece sizes: whatever is bad, it is found, and a row is sent three times at most") {
  const bool tells = GENERATE(true, false);
  const std::uint64_t every = GENERATE(1, 2, 3, 7, 50, 1'000, 10'000);
  const bool at_random = GENERATE(true, false);
  std::mt19937_64 random(every);
  constexpr std::uint64_t kRows = 40'000;
  Sending sending{.bad = {}, .tells = tells, .batch_rows = 10'000};
  for (std::uint64_t row = 0; row < kRows; ++row) {
    if (at_random ? random() % every == 0 : row % every == every - 1) sending.bad.insert(row);
  }
  sending.run(kRows);
  CAPTURE(tells, every, at_random, sending.pieces);
  CHECK(sending.found == sending.bad);
  CHECK(sending.sent <= 3 * kRows);
}

TEST_CASE(
    "piece sizes: one bad row in each ten thousand costs a fifth of them at most, and few pieces") {
  Sending sending{.bad = {}, .tells = true, .batch_rows = 10'000};
  for (std::uint64_t row = 5'000; row < 1'000'000; row += 10'000) sending.bad.insert(row);
  sending.run(1'000'000);
  CHECK(sending.sent <= 1'200'000);
  CHECK(sending.pieces <= 100 * 12);
}

TEST_CASE("piece sizes: after a long time without a refused row batches are whole again") {
  PieceSizes sizes(1'000);
  CHECK_FALSE(sizes.in_pieces());
  sizes.refused(500, 20);
  CHECK(sizes.in_pieces());
  CHECK(sizes.next() == 19);
  sizes.passed(19);
  CHECK(sizes.next() == 1);
  sizes.found();
  sizes.passed(999);
  CHECK(sizes.in_pieces());
  sizes.passed(1);
  CHECK_FALSE(sizes.in_pieces());
}

TEST_CASE("piece sizes: a row that passes after all ends the search") {
  PieceSizes sizes(1'000);
  sizes.refused(100, 2);
  sizes.passed(1);
  sizes.passed(1);
  CHECK(sizes.next() > 1);
  sizes.refused(8, 0);
  CHECK(sizes.next() == 4);
  sizes.passed(4);
  CHECK(sizes.next() == 2);
  sizes.forget_suspects();
  CHECK(sizes.next() > 2);
}
