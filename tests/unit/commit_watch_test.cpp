// When a chunk's lines are committed: the ends of blocks in several lanes against what the lanes
// tell.
#include "ingest/commit_watch.hpp"

#include <atomic>
#include <catch2/catch.hpp>
#include <memory>
#include <thread>
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
    const auto ticket = ledger->push(++lines);
    ledger->durable(ticket, 1, 0);
    commits.watch(ends, ledger, ticket);
  }
  [[nodiscard]] std::uint64_t acked() const { return ledger->take_progress().acked; }

  std::uint64_t lines = 0;
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
