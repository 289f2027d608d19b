// The log in memory: dealing to the lanes, room, segments, reading, releasing.
#include "spool/memory_spool.hpp"

#include <algorithm>
#include <atomic>
#include <catch2/catch.hpp>
#include <optional>
#include <thread>
#include <variant>
#include <vector>

#include "tests/unit/event_fixture.hpp"

using namespace sluice::spool;
using sluice::tests::append_block;
using sluice::tests::chunk_of;
using sluice::tests::numbers_from;
using Numbers = std::vector<std::uint64_t>;

namespace {

// A spool, and who was called.
struct Fixture {
  explicit Fixture(MemorySpoolOptions options)
      : spool(options, {.on_readable = [this](LaneIndex lane) { readable.push_back(lane); },
                        .on_room = [this] { ++rooms; }}) {}

  // Appends a block of a chunk with a capacity of at least `bytes` to the lane.
  void append(LaneIndex lane, std::uint64_t first, std::uint64_t count, std::size_t bytes = 64) {
    append_block(spool, lane, chunk_of(budget, first, count, bytes));
  }

  ByteBudget budget{1'000'000'000};
  std::vector<LaneIndex> readable;
  int rooms = 0;
  MemorySpool spool;
};

Numbers read_numbers(SpoolReader& reader, const Position& position) {
  const ReadResult result = reader.read(position);
  REQUIRE(std::holds_alternative<BlockPtr>(result));
  return numbers_from(std::get<BlockPtr>(result), position.index);
}

}  // namespace

TEST_CASE("memory spool: a lane has no segment before the first append") {
  Fixture f({.lanes = 2});
  CHECK_FALSE(f.spool.reader(0).first_segment());
  f.append(0, 0, 1);
  CHECK(f.spool.reader(0).first_segment());
  CHECK_FALSE(f.spool.reader(1).first_segment());
  CHECK(f.readable == std::vector<LaneIndex>{0});
}

TEST_CASE("memory spool: blocks are dealt to the lanes in turn") {
  Fixture f({.lanes = 3});
  std::vector<LaneIndex> dealt;
  for (std::uint64_t i = 0; i < 7; ++i) {
    const auto lane = f.spool.lane_with_room({});
    REQUIRE(lane);
    dealt.push_back(*lane);
    f.append(*lane, i, 1);
  }
  CHECK(dealt == std::vector<LaneIndex>{0, 1, 2, 0, 1, 2, 0});
  CHECK(f.readable == dealt);
}

TEST_CASE("memory spool: a full lane is passed over") {
  Fixture f({.lanes = 2, .unread_bytes_max = 100});
  f.append(0, 0, 1, 200);
  REQUIRE(f.spool.lane_with_room({}) == LaneIndex{1});
  f.append(1, 1, 1, 200);
  CHECK_FALSE(f.spool.lane_with_room({}));
}

TEST_CASE("memory spool: reading what was unread makes room and says so once") {
  Fixture f({.lanes = 1, .unread_bytes_max = 1000, .held_bytes_max = 1'000'000});
  f.append(0, 0, 1, 1000);
  REQUIRE_FALSE(f.spool.lane_with_room({}));
  auto& reader = f.spool.reader(0);
  const Position start{reader.first_segment()->id, 0};
  CHECK(read_numbers(reader, start) == Numbers{0});
  CHECK(f.rooms == 1);
  CHECK(f.spool.lane_with_room({}));
  CHECK(read_numbers(reader, start) == Numbers{0});  // read again: counted once
  f.append(0, 1, 1, 999);
  CHECK(f.spool.lane_with_room({}));
  CHECK(f.rooms == 1);
}

TEST_CASE("memory spool: what is read and not released takes room too") {
  Fixture f({.lanes = 1, .unread_bytes_max = 1000, .held_bytes_max = 3000});
  auto& reader = f.spool.reader(0);
  std::uint64_t events = 0;
  while (f.spool.lane_with_room({})) {
    f.append(0, events++, 1, 999);
    (void)read_numbers(reader, {reader.first_segment()->id, events - 1});
  }
  CHECK(events == 4);  // 3 x 999 is below 3000
  CHECK(f.rooms == 0);
  reader.release({reader.first_segment()->id, 1});
  CHECK(f.rooms == 1);
  CHECK(f.spool.lane_with_room({}));
}

TEST_CASE("memory spool: releasing a block that was never read makes room as well") {
  Fixture f({.lanes = 1, .unread_bytes_max = 1000});
  f.append(0, 0, 2, 2000);
  REQUIRE_FALSE(f.spool.lane_with_room({}));
  auto& reader = f.spool.reader(0);
  reader.release({reader.first_segment()->id, 1});
  CHECK(f.rooms == 0);  // half a block is still held whole
  reader.release({reader.first_segment()->id, 2});
  CHECK(f.rooms == 1);
  CHECK(f.spool.lane_with_room({}));
}

TEST_CASE("memory spool: nobody is told of room who was not refused") {
  Fixture f({.lanes = 1, .unread_bytes_max = 1000});
  f.append(0, 0, 1, 1000);
  auto& reader = f.spool.reader(0);
  (void)read_numbers(reader, {reader.first_segment()->id, 0});
  reader.release({reader.first_segment()->id, 1});
  CHECK(f.rooms == 0);
}

TEST_CASE("memory spool: a position is found in its block, and the open end has nothing yet") {
  Fixture f({.lanes = 1});
  f.append(0, 0, 3);
  f.append(0, 3, 1);
  f.append(0, 4, 2);
  auto& reader = f.spool.reader(0);
  const Uuid segment = reader.first_segment()->id;
  CHECK(read_numbers(reader, {segment, 0}) == Numbers{0, 1, 2});
  CHECK(read_numbers(reader, {segment, 2}) == Numbers{2});
  CHECK(read_numbers(reader, {segment, 3}) == Numbers{3});
  CHECK(read_numbers(reader, {segment, 5}) == Numbers{5});
  CHECK(std::holds_alternative<NothingYet>(reader.read({segment, 6})));
  CHECK(read_numbers(reader, {segment, 1}) == Numbers{1, 2});  // back again
}

TEST_CASE("memory spool: released events are gone and free their memory") {
  Fixture f({.lanes = 1});
  f.append(0, 0, 3);
  f.append(0, 3, 3);
  auto& reader = f.spool.reader(0);
  const Uuid segment = reader.first_segment()->id;
  const std::size_t bytes = f.budget.used_bytes();
  CHECK(reader.release({segment, 4}) == 4);
  CHECK(f.budget.used_bytes() < bytes);
  CHECK(reader.events_held() == 2);
  const ReadResult result = reader.read({segment, 3});
  REQUIRE(std::holds_alternative<Gone>(result));
  CHECK(std::get<Gone>(result).first_index == 4);
  CHECK(read_numbers(reader, {segment, 4}) == Numbers{4, 5});

  CHECK(reader.release({segment, 2}) == 0);  // nothing comes back
  CHECK(reader.events_held() == 2);
  CHECK(reader.release({segment, 6}) == 2);
  CHECK(f.budget.used_bytes() == 0);
  CHECK(f.spool.events_held() == 0);
  CHECK(reader.first_segment()->id == segment);  // open: it goes on
  CHECK(std::holds_alternative<NothingYet>(reader.read({segment, 6})));
}

TEST_CASE("memory spool: a block that is being read outlives its release") {
  Fixture f({.lanes = 1});
  f.append(0, 0, 3);
  auto& reader = f.spool.reader(0);
  const Uuid segment = reader.first_segment()->id;
  const ReadResult result = reader.read({segment, 0});
  reader.release({segment, 3});
  CHECK(f.budget.used_bytes() > 0);
  CHECK(numbers_from(std::get<BlockPtr>(result), 0) == Numbers{0, 1, 2});
}

TEST_CASE("memory spool: a segment is sealed by its size and dropped when it is released") {
  Fixture f({.lanes = 1, .segment_bytes = 500});
  f.append(0, 0, 2, 400);
  f.append(0, 2, 1, 400);  // 800 bytes: the next opens another
  f.append(0, 3, 1, 400);
  auto& reader = f.spool.reader(0);
  const Uuid first = reader.first_segment()->id;
  CHECK(read_numbers(reader, {first, 2}) == Numbers{2});
  CHECK(std::holds_alternative<EndOfSegment>(reader.read({first, 3})));

  reader.release({first, 2});
  CHECK(reader.first_segment()->id == first);
  reader.release({first, 3});
  const Uuid second = reader.first_segment()->id;
  CHECK(second != first);
  CHECK(std::holds_alternative<EndOfSegment>(reader.read({first, 3})));
  CHECK(read_numbers(reader, {second, 0}) == Numbers{3});
}

TEST_CASE("memory spool: a segment that was released before it was sealed is dropped too") {
  Fixture f({.lanes = 1, .segment_bytes = 500});
  f.append(0, 0, 1, 600);
  auto& reader = f.spool.reader(0);
  const Uuid first = reader.first_segment()->id;
  reader.release({first, 1});
  CHECK(reader.first_segment()->id == first);
  f.append(0, 1, 1, 600);
  CHECK(reader.first_segment()->id != first);
  CHECK(read_numbers(reader, {reader.first_segment()->id, 0}) == Numbers{1});
}

TEST_CASE("memory spool: counts events and knows the oldest over all lanes") {
  Fixture f({.lanes = 2});
  CHECK_FALSE(f.spool.oldest_received_us());
  f.append(1, 20, 2);
  f.append(0, 30, 3);
  CHECK(f.spool.events_held() == 5);
  CHECK(f.spool.reader(0).events_held() == 3);
  CHECK(f.spool.oldest_received_us() == 20);
  auto& reader = f.spool.reader(1);
  reader.release({reader.first_segment()->id, 2});
  CHECK(f.spool.oldest_received_us() == 30);
}

TEST_CASE("memory spool: a writer that waits for room beside a reading thread is always told") {
  constexpr std::uint64_t kEvents = 3'000;
  std::atomic<int> rooms{0};
  ByteBudget budget(1'000'000'000);
  MemorySpool spool(
      {.lanes = 1, .unread_bytes_max = 300, .held_bytes_max = 500, .segment_bytes = 5'000},
      {.on_room = [&] { rooms.fetch_add(1); }});
  std::thread writer([&] {
    for (std::uint64_t n = 0; n < kEvents;) {
      const int seen = rooms.load();
      if (const auto lane = spool.lane_with_room({})) {
        append_block(spool, *lane, chunk_of(budget, n++, 1));
        continue;
      }
      while (rooms.load() == seen) std::this_thread::yield();
    }
  });

  auto& reader = spool.reader(0);
  Numbers numbers;
  std::optional<Position> next;
  while (numbers.size() < kEvents) {
    if (!next) {
      const auto segment = reader.first_segment();
      if (segment) next = Position{segment->id, 0};
      std::this_thread::yield();
      continue;
    }
    const ReadResult result = reader.read(*next);
    if (const auto* block = std::get_if<BlockPtr>(&result)) {
      for (const std::uint64_t number : numbers_from(*block, next->index))
        numbers.push_back(number);
      next->index = (*block)->end_index();
      reader.release(*next);
    } else if (std::holds_alternative<EndOfSegment>(result)) {
      next.reset();
    } else {
      std::this_thread::yield();
    }
  }
  writer.join();
  CHECK(std::is_sorted(numbers.begin(), numbers.end()));
  CHECK(std::adjacent_find(numbers.begin(), numbers.end()) == numbers.end());
  CHECK(spool.events_held() == 0);
  CHECK(rooms.load() > 0);
}
