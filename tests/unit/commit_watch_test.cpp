// When a chunk's lines are committed: the ends of blocks in several lanes against what the lanes
// tell.
#include "ingest/commit_watch.hpp"

#include <array>
#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "tests/unit/event_fixture.hpp"

using namespace sluice::ingest;
using sluice::spool::Position;
using sluice::tests::numbered_id;

namespace {

// Lines and tickets have the same numbers.
struct Fixture {
  CommitWatch commits{2};
  std::shared_ptr<AckLedger> ledger = std::make_shared<AckLedger>(AckStage::committed, [] {});

  void watch(const std::vector<BlockEnd>& ends) {
    for (const BlockEnd& end : ends) append(end);
    const auto ticket = ledger->push(++lines);
    ledger->durable(ticket, 1, 0);
    commits.watch(ends, ledger, ticket);
  }
  // Once for each block.
  void append(const BlockEnd& end) {
    Position& last = appended[end.lane];
    if (last == end.position) return;
    last = end.position;
    commits.appending(end.lane);
    commits.appended(end);
  }
  // A chunk whose lines these are, its rows from `first` on, in the block up to `end`.
  void watch_rows(const Position& first, std::uint64_t end, std::vector<AckLedger::Lines> rows) {
    const auto ticket = ledger->push(rows.back().last);
    ledger->durable(ticket, 100, 0);
    const BlockEnd block{0, {first.segment, end}};
    append(block);
    commits.watch({&block, 1}, ledger, ticket, {0, first, std::move(rows)});
  }
  [[nodiscard]] std::uint64_t acked() const { return ledger->take_progress().acked; }

  std::uint64_t lines = 0;
  std::array<Position, 2> appended{};
};

Position at(std::uint64_t segment, std::uint64_t index) {
  return {numbered_id(segment), index};
}

}  // namespace

TEST_CASE("commit watch: a chunk is committed when its lane has passed its block's end") {
  Fixture f;
  f.watch({{0, at(1, 10)}});
  f.watch({{0, at(1, 20)}});
  f.commits.committed(0, at(1, 9));
  CHECK(f.acked() == 0);
  f.commits.committed(1, at(1, 20));  // of another lane
  CHECK(f.acked() == 0);
  f.commits.committed(0, at(1, 15));
  CHECK(f.acked() == 1);
  f.commits.committed(0, at(1, 20));
  CHECK(f.acked() == 2);
}

TEST_CASE("commit watch: a commit that came before the watch is not missed") {
  Fixture f;
  f.commits.committed(0, at(1, 10));
  f.watch({{0, at(1, 10)}});
  CHECK(f.acked() == 1);
  f.watch({{0, at(1, 11)}});
  CHECK(f.acked() == 1);
  f.commits.committed(0, at(2, 0));  // the lane looks at the next segment: nothing of it yet
  f.watch({{0, at(1, 10)}});
  f.commits.committed(0, at(1, 11));
  CHECK(f.acked() == 3);
}

TEST_CASE("commit watch: a later segment says nothing of one whose commits were not told") {
  Fixture f;
  f.watch({{0, at(1, 10)}});
  f.watch({{0, at(2, 10)}});
  f.commits.committed(0, at(2, 10));
  CHECK(f.acked() == 0);
  f.commits.committed(0, at(1, 10));
  CHECK(f.acked() == 2);
}

TEST_CASE("commit watch: an older segment that turns out whole hides no commit of the newer one") {
  const bool was_told = GENERATE(false, true);
  Fixture f;
  f.append({0, at(1, 5)});
  if (was_told) f.commits.committed(0, at(1, 3));
  f.append({0, at(2, 20)});
  f.commits.refused(0, at(2, 12), "23514");
  f.commits.committed(0, at(1, UINT64_MAX));
  f.commits.committed(0, at(2, 20));
  f.commits.committed(0, at(1, UINT64_MAX));
  f.watch_rows(at(2, 10), 20, {{1, 10}});
  const auto progress = f.ledger->take_progress();
  CHECK(progress.acked == 10);
  CHECK(progress.refused_rows == std::vector<AckLedger::RefusedRow>{{3, "23514"}});
  // Nor does the newest, whose end is still waited for.
  f.commits.committed(0, at(2, UINT64_MAX));
  f.commits.committed(0, at(1, UINT64_MAX));
  f.lines = 10;
  f.watch({{0, at(2, 20)}});
  CHECK(f.acked() == 11);
}

TEST_CASE("commit watch: a chunk that waits for several lanes waits for the last of them") {
  Fixture f;
  f.watch({{0, at(1, 10)}, {1, at(2, 5)}});
  f.watch({});
  f.commits.committed(1, at(2, 5));
  CHECK(f.acked() == 0);
  f.commits.committed(0, at(1, 10));
  CHECK(f.acked() == 2);
}

TEST_CASE("commit watch: after lost commits a chunk waits until they have come again") {
  Fixture f;
  f.commits.committed(0, at(1, 10));
  f.commits.committed(0, at(1, 4));  // delivered again, so far
  f.watch({{0, at(1, 12)}});
  f.commits.committed(0, at(1, 10));
  CHECK(f.acked() == 0);
  f.commits.committed(0, at(1, 12));
  CHECK(f.acked() == 1);
}

TEST_CASE("commit watch: a refused row is told by its line when the commit passes it") {
  Fixture f;
  f.watch_rows(at(1, 0), 7, {{1, 2}, {5, 5}});  // the rows 0 to 2
  f.watch_rows(at(1, 3), 7, {{6, 9}});          // 3 to 6, in the same block
  f.commits.refused(0, at(1, 2), "23514");
  f.commits.refused(0, at(1, 6), "22P02");
  f.commits.refused(0, at(1, 6), "22P02");  // again, after a lost connection
  f.commits.refused(0, at(1, 7), "23514");  // somebody else's
  f.commits.refused(1, at(1, 1), "23514");  // of another lane
  f.commits.refused(0, at(2, 1), "23514");  // of another segment
  CHECK(f.ledger->take_progress().refused_rows.empty());

  f.commits.committed(0, at(1, 7));
  const auto progress = f.ledger->take_progress();
  CHECK(progress.refused_rows == std::vector<AckLedger::RefusedRow>{{5, "23514"}, {9, "22P02"}});
  CHECK(progress.stored == 198);
  CHECK(progress.acked == 9);
}

TEST_CASE("commit watch: a row that was refused before its chunk was watched is told as well") {
  Fixture f;
  f.commits.appending(0);
  f.commits.refused(0, at(1, 1), "23514");
  f.watch_rows(at(1, 0), 2, {{1, 2}});
  f.commits.committed(0, at(1, 2));
  CHECK(f.ledger->take_progress().refused_rows.size() == 1);

  f.commits.appending(0);
  f.commits.refused(0, at(1, 3), "23514");
  f.commits.committed(0, at(1, 4));
  f.watch_rows(at(1, 2), 4, {{3, 4}});
  CHECK(f.ledger->take_progress().refused_rows == std::vector<AckLedger::RefusedRow>{{4, "23514"}});
}

TEST_CASE("commit watch: every refused row of a block that is committed in many pieces is told") {
  const bool watch_comes_late = GENERATE(false, true);
  constexpr std::uint64_t kRows = 60;
  Fixture f;
  const auto watch = [&] {
    f.watch_rows(at(1, 0), kRows, {{1, 30}});
    f.watch_rows(at(1, 30), kRows, {{31, kRows}});
  };
  if (watch_comes_late) {
    f.commits.appending(0);
  } else {
    watch();
  }
  std::vector<AckLedger::RefusedRow> refused;
  for (std::uint64_t row = 0; row < kRows; ++row) {
    if (row % 2 != 0) continue;
    f.commits.refused(0, at(1, row), "23514");
    f.commits.committed(0, at(1, row + 1));
    refused.push_back({row + 1, "23514"});
  }
  f.commits.committed(0, at(1, kRows));
  if (watch_comes_late) watch();
  const auto progress = f.ledger->take_progress();
  CHECK(progress.refused_rows == refused);
  CHECK(progress.stored == 200 - kRows / 2);
  CHECK(progress.acked == kRows);
}

TEST_CASE("commit watch: the rows of a block that is waited for stay when another is appended") {
  Fixture f;
  f.watch_rows(at(1, 0), 10, {{1, 10}});
  f.watch_rows(at(1, 10), 20, {{11, 20}});
  f.commits.refused(0, at(1, 3), "23514");
  f.commits.committed(0, at(1, 5));
  f.append({0, at(2, 10)});
  f.commits.committed(0, at(1, 8));
  f.commits.committed(0, at(1, 10));
  CHECK(f.ledger->take_progress().refused_rows == std::vector<AckLedger::RefusedRow>{{4, "23514"}});
  f.commits.refused(0, at(1, 12), "23514");
  f.commits.committed(0, at(1, 14));
  f.commits.committed(0, at(1, 16));
  f.commits.committed(0, at(1, 20));
  CHECK(f.ledger->take_progress().refused_rows ==
        std::vector<AckLedger::RefusedRow>{{13, "23514"}});
}

TEST_CASE("commit watch: no refused row is kept that nobody waits for") {
  const bool is_own = GENERATE(false, true);  // a segment of this run, or of one before
  Fixture f;
  f.watch_rows(at(1, 0), 10, {{1, 10}});
  const std::uint64_t segment = is_own ? 1 : 9;
  f.commits.refused(0, at(segment, 4), "23514");
  f.commits.committed(0, at(1, 10));
  f.append({0, at(1, 20)});
  CHECK(f.commits.refused_kept(0) == 1);
  f.commits.appending(0);
  f.commits.committed(0, at(segment, 12));
  CHECK(f.commits.refused_kept(0) == 1);  // what is appended may be what was committed
  f.commits.not_appended(0);
  f.commits.committed(0, at(segment, 13));
  CHECK(f.commits.refused_kept(0) == 0);

  f.commits.refused(0, at(1, 14), "23514");
  f.commits.committed(0, at(1, UINT64_MAX));
  CHECK(f.commits.refused_kept(0) == 1);  // of the newest block
  f.append({0, at(2, 10)});
  CHECK(f.commits.refused_kept(0) == 0);
}

TEST_CASE("commit watch: commits race with the watches and none is missed") {
  constexpr std::uint64_t kBlocks = 20'000;
  Fixture f;
  std::atomic<std::uint64_t> appended{0};
  std::thread sink([&] {
    for (std::uint64_t end = 0; end < kBlocks;) {
      if (appended == end) {
        std::this_thread::yield();
        continue;
      }
      end = appended;
      f.commits.committed(0, at(1, end));
    }
  });
  for (std::uint64_t end = 1; end <= kBlocks; ++end) {
    appended = end;
    f.watch({{0, at(1, end)}});
  }
  sink.join();
  CHECK(f.acked() == kBlocks);
}
