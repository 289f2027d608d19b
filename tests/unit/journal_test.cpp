// The journal: duplicates go, ids come, blocks close, and a full spool takes nothing.
#include "ingest/journal.hpp"

#include <catch2/catch.hpp>
#include <optional>
#include <vector>

#include "tests/unit/event_fixture.hpp"

using namespace sluice::ingest;
using namespace sluice::spool;
using sluice::tests::chunk_of;

namespace {

class FakeSpool final : public SpoolWriter {
 public:
  std::optional<LaneIndex> lane_with_room(const SpoolTime&) override {
    if (full) return std::nullopt;
    return 1;
  }
  std::optional<Position> append(LaneIndex lane, std::vector<Chunk>& chunks,
                                 std::span<const ProducerMark>, const SpoolTime&) override {
    REQUIRE(lane == 1);
    std::uint64_t events = 0;
    for (const Chunk& chunk : chunks) {
      REQUIRE_FALSE(chunk.empty());
      events += chunk.count();
    }
    REQUIRE(events > 0);
    blocks.push_back(std::exchange(chunks, {}));
    return Position{};
  }
  void tend(const SpoolTime&) override {}

  [[nodiscard]] std::vector<EventView> events() const {
    std::vector<EventView> events;
    for (const auto& chunks : blocks) {
      for (const Chunk& chunk : chunks) {
        for (std::size_t at = 0; at < chunk.bytes().size();) {
          events.emplace_back(chunk.bytes().data() + at);
          at += events.back().header().record_bytes;
        }
      }
    }
    return events;
  }

  bool full = false;
  std::vector<std::vector<Chunk>> blocks;
};

struct Fixture {
  ByteBudget budget{1'000'000'000};
  EventQueue queue{[] {}};
  std::unique_ptr<EventQueue::Producer> producer = queue.make_producer();
  DedupeWindow dedupe{{.window_ms = 1000, .keys_max = 1000}};
  IdGenerator ids{1};
  FakeSpool spool;
  IngestCounters counters;
  ProducerTable producers{100};
  CommitWatch commits{2};
  Journal journal{{}, {queue, dedupe, ids, spool, producers, commits, counters}};
  SpoolTime now{1'767'225'600'000'000, 5'000};

  // One event in a chunk of its own.
  void push(unsigned flags, DedupeHash hash = {0, 0}, Uuid id = {}) {
    Chunk chunk(budget, 64);
    RecordHeader header{};
    header.flags = static_cast<std::uint8_t>(flags);
    header.dedupe_hash[0] = hash.first;
    header.dedupe_hash[1] = hash.second;
    header.id = id;
    std::vector<FieldSpan> fields;
    if ((flags & kHasIdKey) != 0) {
      FieldSpan span{};
      span.begin = 1;
      span.length = 7;
      span.field = static_cast<std::uint8_t>(Field::id_member);
      span.kind = static_cast<std::uint8_t>(ValueKind::members);
      fields.push_back(span);
    }
    chunk.append(header, fields, R"({"id":"x"})", {});
    queue.push(*producer, std::move(chunk), {});
  }
};

}  // namespace

TEST_CASE("journal: an empty queue gives an empty turn") {
  Fixture f;
  CHECK(f.journal.turn(f.now).result == Journal::Result::queue_empty);
  CHECK(f.spool.blocks.empty());
}

TEST_CASE("journal: events without an id get one each, in their order") {
  Fixture f;
  f.queue.push(*f.producer, chunk_of(f.budget, 1, 3), {});
  f.queue.push(*f.producer, chunk_of(f.budget, 4, 2), {});
  CHECK(f.journal.turn(f.now).result == Journal::Result::worked);
  CHECK(f.journal.turn(f.now).result == Journal::Result::queue_empty);
  REQUIRE(f.spool.blocks.size() == 1);
  const auto events = f.spool.events();
  REQUIRE(events.size() == 5);
  for (std::size_t i = 0; i < events.size(); ++i) {
    CHECK(events[i].header().received_us == static_cast<std::int64_t>(i + 1));
    CHECK(events[i].header().id.bytes[6] >> 4 == 7);
    if (i > 0) CHECK(events[i - 1].header().id < events[i].header().id);
  }
  CHECK(f.counters.events_journaled == 5);
}

TEST_CASE("journal: a producer's id stays") {
  Fixture f;
  const Uuid id = sluice::tests::numbered_id(77);
  f.push(kHasId | kHasIdKey, {1, 2}, id);
  CHECK(f.journal.turn(f.now).result == Journal::Result::worked);
  CHECK(f.spool.events().at(0).header().id == id);
  CHECK(f.spool.events().at(0).fields()[0].field == static_cast<unsigned>(Field::id_member));
}

TEST_CASE("journal: a duplicate is dropped and counted, after its window it is none") {
  Fixture f;
  f.push(kHasDedupeKey, {1, 2});
  f.push(kHasDedupeKey, {1, 2});
  f.push(0, {1, 2});
  f.push(0, {1, 2});
  CHECK(f.journal.turn(f.now).result == Journal::Result::worked);
  CHECK(f.spool.events().size() == 3);  // events without a key are never duplicates
  CHECK(f.counters.duplicates == 1);
  CHECK(f.counters.events_journaled == 3);
  CHECK(f.counters.dedupe_keys == 1);

  f.push(kHasDedupeKey, {1, 2});
  CHECK(f.journal.turn(f.now).result ==
        Journal::Result::worked);  // nothing but a duplicate: no block
  CHECK(f.spool.blocks.size() == 1);
  f.now.steady_ms += 1'001;
  f.push(kHasDedupeKey, {1, 2});
  CHECK(f.journal.turn(f.now).result == Journal::Result::worked);
  CHECK(f.spool.blocks.size() == 2);
  CHECK(f.counters.duplicates == 2);
}

TEST_CASE("journal: an id that was used for another line goes to extra, and a new one is given") {
  Fixture f;
  const Uuid id = sluice::tests::numbered_id(77);
  f.push(kHasId | kHasIdKey, {1, 2}, id);
  f.push(kHasId | kHasIdKey, {1, 3}, id);
  f.push(kHasId | kHasIdKey, {1, 3}, id);  // the second line again
  CHECK(f.journal.turn(f.now).result == Journal::Result::worked);
  const auto events = f.spool.events();
  REQUIRE(events.size() == 2);
  CHECK(events[0].header().id == id);
  CHECK(events[1].header().id != id);
  CHECK(events[1].header().id.bytes[6] >> 4 == 7);
  CHECK((events[1].header().flags & kHasId) == 0);
  REQUIRE(events[1].fields().size() == 1);
  CHECK(events[1].fields()[0].field == static_cast<unsigned>(Field::extra));
  CHECK(events[1].text(events[1].fields()[0]) == R"("id":"x)");
  CHECK(f.counters.id_conflicts == 1);
  CHECK(f.counters.duplicates == 1);
}

TEST_CASE("journal: dedupe keys that share half a hash are no conflict") {
  Fixture f;
  f.push(kHasDedupeKey | kHasId, {1, 2}, sluice::tests::numbered_id(1));
  f.push(kHasDedupeKey | kHasId, {1, 3}, sluice::tests::numbered_id(2));
  CHECK(f.journal.turn(f.now).result == Journal::Result::worked);
  const auto events = f.spool.events();
  REQUIRE(events.size() == 2);
  CHECK(events[1].header().id == sluice::tests::numbered_id(2));
  CHECK(f.counters.id_conflicts == 0);
}

TEST_CASE("journal: a full spool takes nothing from the queue") {
  Fixture f;
  f.push(kHasDedupeKey, {1, 2});
  f.spool.full = true;
  CHECK(f.journal.turn(f.now).result == Journal::Result::spool_full);
  CHECK(f.counters.dedupe_keys == 0);
  f.spool.full = false;
  CHECK(f.journal.turn(f.now).result == Journal::Result::worked);
  CHECK(f.spool.events().size() == 1);
  CHECK(f.counters.duplicates == 0);
}

TEST_CASE("journal: a block closes at its size, and nothing is left behind") {
  Fixture f;
  constexpr std::uint64_t kChunks = 10;
  for (std::uint64_t i = 0; i < kChunks; ++i) {
    f.queue.push(*f.producer, chunk_of(f.budget, i * 1000, 1000), {});  // about 88 KB each
  }
  int turns = 0;
  while (f.journal.turn(f.now).result == Journal::Result::worked) ++turns;
  CHECK(turns > 2);
  CHECK(f.spool.events().size() == 1000 * kChunks);
  for (const auto& chunks : f.spool.blocks) CHECK(chunks.size() <= 4);
}

TEST_CASE("journal: a flood of duplicates does not make a turn endless") {
  Fixture f;
  for (int i = 0; i < 5'000; ++i) f.push(kHasDedupeKey, {1, 2});
  int turns = 0;
  while (f.journal.turn(f.now).result == Journal::Result::worked) ++turns;
  CHECK(turns > 2);
  CHECK(f.spool.events().size() == 1);
  CHECK(f.counters.duplicates == 4'999);
}
