// The journal: duplicates go, ids come, blocks close, and a full spool takes nothing.
#include "ingest/journal.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "tests/unit/event_fixture.hpp"

using namespace sluice::ingest;
using namespace sluice::spool;
using sluice::tests::chunk_of;

namespace {

// Deals blocks to two lanes in turn, and takes them or not as it is told.
class FakeSpool final : public SpoolWriter {
 public:
  std::optional<LaneIndex> lane_with_room(const SpoolTime&) override {
    if (full) return std::nullopt;
    return next_lane_;
  }
  std::optional<Position> append(LaneIndex lane, std::vector<Chunk>& chunks,
                                 std::span<const ProducerMark> with, const SpoolTime&) override {
    REQUIRE(lane == next_lane_);
    REQUIRE_FALSE((chunks.empty() && with.empty()));
    for (const Chunk& chunk : chunks) REQUIRE_FALSE(chunk.empty());
    ++appends;
    if (refuses) return std::nullopt;
    next_lane_ = 1 - next_lane_;
    marks.assign(with.begin(), with.end());
    for (const Chunk& chunk : chunks) ends_[lane].index += chunk.count();
    ends_[lane].segment = sluice::tests::numbered_id(lane);
    blocks.push_back(std::exchange(chunks, {}));
    if (on_visible) on_visible(ends_[lane]);
    return ends_[lane];
  }
  void tend(const SpoolTime&) override { ++tended; }

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
  [[nodiscard]] std::vector<std::int64_t> numbers() const {
    std::vector<std::int64_t> numbers;
    for (const EventView& event : events()) numbers.push_back(event.header().received_us);
    return numbers;
  }

  bool full = false;     // no lane has room
  bool refuses = false;  // the disk takes nothing
  // The lane has the block before its append has returned.
  std::function<void(const Position& end)> on_visible;
  std::vector<std::vector<Chunk>> blocks;
  std::vector<ProducerMark> marks;  // of the last block
  int appends = 0;                  // refused ones too
  int tended = 0;

 private:
  LaneIndex next_lane_ = 0;
  Position ends_[2];
};

struct Fixture {
  explicit Fixture(JournalOptions options = {})
      : journal(options, {queue, dedupe, ids, spool, producers, commits, counters}) {}

  ByteBudget budget{1'000'000'000};
  EventQueue queue{[] {}};
  std::unique_ptr<EventQueue::Producer> producer = queue.make_producer();
  DedupeWindow dedupe{{.window_ms = 1000, .keys_max = 1000}};
  IdGenerator ids{1};
  FakeSpool spool;
  IngestCounters counters;
  ProducerTable producers{100};
  CommitWatch commits{2};
  Journal journal;
  SpoolTime now{1'767'225'600'000'000, 5'000};

  [[nodiscard]] Journal::Result turn() { return journal.turn(now).result; }
  // Accepted and not yet known to be anywhere else.
  [[nodiscard]] std::uint64_t in_memory() const {
    return accepted - counters.events_journaled - counters.duplicates -
           counters.events_turned_away - counters.events_dropped;
  }
  std::uint64_t accepted = 0;

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

// One producer's connection, each of whose lines is an event; the events' numbers are told by
// received_us.
class Client {
 public:
  explicit Client(Fixture& fixture, OnFull on_full = OnFull::wait,
                  std::optional<AckStage> stage = std::nullopt)
      : fixture_(fixture), on_full_(on_full) {
    if (stage) ledger_ = std::make_shared<AckLedger>(*stage, [this] { on_progress(); });
  }

  Client& named(std::uint64_t key, std::uint64_t first) {
    name_ = ProducerKey{key, key};
    line_offset_ = first - 1;
    return *this;
  }

  // A chunk of one line for each number; a key of 0 is none.
  void send(const std::vector<std::int64_t>& numbers, const std::vector<std::uint64_t>& keys = {}) {
    Origin origin;
    origin.first_line = lines_ + 1;
    origin.on_full = on_full_;
    origin.producer = name_;
    origin.line_offset = line_offset_;
    Chunk chunk(fixture_.budget, 64);
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      RecordHeader header{};
      header.received_us = numbers[i];
      set_line_delta(header, static_cast<std::uint32_t>(lines_ + 1 - origin.first_line));
      if (i < keys.size() && keys[i] != 0) {
        header.flags = kHasDedupeKey;
        header.dedupe_hash[0] = keys[i];
      }
      chunk.append(header, {}, "{}", {});
      ++lines_;
    }
    fixture_.accepted += chunk.count();
    origin.ledger = ledger_;
    if (ledger_) origin.ticket = ledger_->push(lines_);
    fixture_.queue.push(*producer_, std::move(chunk), std::move(origin));
    if (ledger_) ledger_->handled(lines_);
  }
  // A line that is refused, or is empty.
  void skip_line() { ++lines_; }

  AckLedger::Progress progress() { return ledger_->take_progress(); }
  std::uint64_t acked() { return progress().acked; }

  std::function<void()> on_progress = [] {};

 private:
  Fixture& fixture_;
  const OnFull on_full_;
  std::shared_ptr<AckLedger> ledger_;
  std::unique_ptr<EventQueue::Producer> producer_ = fixture_.queue.make_producer();
  std::optional<ProducerKey> name_;
  std::uint64_t line_offset_ = 0;
  std::uint64_t lines_ = 0;
};

using Numbers = std::vector<std::int64_t>;

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

TEST_CASE("journal: no line is acked before its block is durable, and then all of it is") {
  Fixture f;
  Client client(f, OnFull::wait, AckStage::durable);
  client.send({1, 2});
  client.send({3});
  f.spool.refuses = true;
  CHECK(f.turn() == Journal::Result::spool_full);
  CHECK(f.turn() == Journal::Result::spool_full);
  CHECK(f.journal.is_full());
  CHECK(f.spool.appends == 2);
  CHECK(client.acked() == 0);
  CHECK(f.counters.events_journaled == 0);
  CHECK(f.in_memory() == 3);

  client.send({4});  // waits behind the block that was refused
  CHECK(f.turn() == Journal::Result::spool_full);
  f.spool.refuses = false;
  CHECK(f.turn() == Journal::Result::worked);
  CHECK_FALSE(f.journal.is_full());
  CHECK(f.spool.numbers() == Numbers{1, 2, 3});
  CHECK(client.acked() == 3);
  CHECK(f.turn() == Journal::Result::worked);
  const auto progress = client.progress();
  CHECK(progress.acked == 4);
  CHECK(progress.stored == 4);
  CHECK(f.in_memory() == 0);
}

TEST_CASE("journal: a duplicate of a pending event is acked with it, not before") {
  Fixture f;
  Client client(f, OnFull::wait, AckStage::durable);
  Client other(f, OnFull::wait, AckStage::durable);
  client.send({1}, {77});
  other.send({2}, {77});
  f.spool.refuses = true;
  CHECK(f.turn() == Journal::Result::spool_full);
  CHECK(client.acked() == 0);
  CHECK(other.acked() == 0);
  CHECK(f.counters.duplicates == 0);
  f.spool.refuses = false;
  CHECK(f.turn() == Journal::Result::worked);
  CHECK(f.spool.events().size() == 1);
  CHECK(client.acked() + other.acked() == 2);
  CHECK(f.counters.duplicates == 1);

  other.send({3}, {77});  // of a durable one: no room is needed
  f.spool.refuses = true;
  CHECK(f.turn() == Journal::Result::worked);
  const auto progress = other.progress();
  CHECK(progress.acked == 2);
  CHECK(progress.duplicates + progress.stored == 2);
}

TEST_CASE("journal: keys are erased before a line is refused, so that it can be sent again") {
  Fixture f;
  Client client(f, OnFull::reject, AckStage::durable);
  bool told = false;
  client.on_progress = [&] {
    told = true;
    CHECK(f.counters.refused[static_cast<std::size_t>(Refusal::full)] > 0);
    CHECK(f.dedupe.keys() == 0);
  };
  client.send({1, 2}, {77, 78});
  client.skip_line();
  client.send({3}, {77});  // a duplicate of one that is not stored either
  f.spool.refuses = true;
  CHECK(f.turn() == Journal::Result::spool_full);
  CHECK(told);
  auto progress = client.progress();
  REQUIRE(progress.nacks.size() == 2);
  CHECK(progress.nacks[0].first_line == 1);
  CHECK(progress.nacks[0].last_line == 2);
  CHECK(progress.nacks[0].code == Refusal::full);
  CHECK(progress.nacks[1].first_line == 4);
  CHECK(progress.nacks[1].last_line == 4);
  CHECK(progress.acked == 4);
  CHECK(progress.stored + progress.duplicates == 0);
  CHECK(f.counters.refused[static_cast<std::size_t>(Refusal::full)] == 3);
  CHECK(f.counters.events_turned_away == 3);
  CHECK(f.in_memory() == 0);

  client.on_progress = [] {};
  client.send({4, 5}, {77, 78});
  f.spool.refuses = false;
  CHECK(f.turn() == Journal::Result::worked);
  CHECK(f.spool.numbers() == Numbers{4, 5});
  progress = client.progress();
  CHECK(progress.stored == 2);
  CHECK(progress.duplicates == 0);
}

TEST_CASE("journal: only those that do not wait leave a block that was refused") {
  Fixture f;
  Client impatient(f, OnFull::reject, AckStage::durable);
  Client patient(f, OnFull::wait, AckStage::durable);
  impatient.send({1}, {71});
  patient.send({2}, {72});
  impatient.send({3}, {72});  // a duplicate of one that waits
  f.spool.refuses = true;
  CHECK(f.turn() == Journal::Result::spool_full);
  CHECK(impatient.progress().nacks.size() == 1);
  CHECK(patient.acked() == 0);
  CHECK(f.counters.events_turned_away == 2);
  CHECK(f.dedupe.keys() == 1);
  f.spool.refuses = false;
  CHECK(f.turn() == Journal::Result::worked);
  CHECK(f.spool.numbers() == Numbers{2});
  CHECK(patient.acked() == 1);
  CHECK(f.in_memory() == 0);
}

TEST_CASE("journal: duplicates beside lines that are turned away need no room") {
  Fixture f;
  Client patient(f, OnFull::wait, AckStage::durable);
  patient.send({1}, {71});
  CHECK(f.turn() == Journal::Result::worked);
  Client impatient(f, OnFull::reject);
  impatient.send({2});
  patient.send({3}, {71});
  f.spool.refuses = true;
  CHECK(f.turn() == Journal::Result::spool_full);
  CHECK(patient.acked() == 2);
  CHECK(f.journal.is_full());
  CHECK(f.in_memory() == 0);
}

TEST_CASE("journal: while a block waits, those that do not wait are turned away from the queue") {
  Fixture f;
  Client patient(f, OnFull::wait, AckStage::durable);
  Client rejected(f, OnFull::reject, AckStage::durable);
  Client dropped(f, OnFull::drop);
  patient.send({1});
  f.spool.refuses = true;
  CHECK(f.turn() == Journal::Result::spool_full);
  rejected.send({2, 3});
  dropped.send({4});
  patient.send({5});
  CHECK(f.turn() == Journal::Result::spool_full);
  CHECK(rejected.progress().nacks.at(0).last_line == 2);
  CHECK(f.counters.events_turned_away == 2);
  CHECK(f.counters.events_dropped == 1);
  CHECK(f.counters.refused[static_cast<std::size_t>(Refusal::full)] == 2);
  CHECK(f.in_memory() == 2);
  f.spool.refuses = false;
  CHECK(f.turn() == Journal::Result::worked);
  CHECK(f.turn() == Journal::Result::worked);
  CHECK(f.spool.numbers() == Numbers{1, 5});
}

TEST_CASE("journal: dropped lines are told as full to a producer that asked for acks") {
  Fixture f;
  Client client(f, OnFull::drop, AckStage::durable);
  client.send({1});
  f.spool.refuses = true;
  CHECK(f.turn() == Journal::Result::spool_full);
  const auto progress = client.progress();
  CHECK(progress.nacks.at(0).code == Refusal::full);
  CHECK(progress.acked == 1);
  CHECK(f.counters.events_dropped == 1);
  CHECK(f.counters.refused[static_cast<std::size_t>(Refusal::full)] == 0);
}

TEST_CASE("journal: lanes without room for a moment turn nobody away, for longer they do") {
  Fixture f;
  Client patient(f, OnFull::wait);
  Client impatient(f, OnFull::reject);
  patient.send({1});
  impatient.send({2});
  f.spool.full = true;
  CHECK(f.turn() == Journal::Result::spool_full);
  f.now.steady_ms += 500;
  CHECK(f.turn() == Journal::Result::spool_full);
  CHECK_FALSE(f.journal.is_full());
  f.spool.full = false;
  CHECK(f.turn() == Journal::Result::worked);
  CHECK(f.spool.events().size() == 2);

  patient.send({3});
  impatient.send({4});
  f.spool.full = true;
  CHECK(f.turn() == Journal::Result::spool_full);
  f.now.steady_ms += 1'000;
  CHECK(f.turn() == Journal::Result::spool_full);
  CHECK(f.journal.is_full());
  CHECK(f.counters.events_turned_away == 1);
  f.spool.full = false;
  CHECK(f.turn() == Journal::Result::worked);
  CHECK_FALSE(f.journal.is_full());
  CHECK(f.spool.events().size() == 3);
}

TEST_CASE("journal: what is gathered and does not wait is turned away too") {
  Fixture f({.sync_delay = std::chrono::milliseconds(500)});
  Client impatient(f, OnFull::reject);
  Client patient(f, OnFull::wait);
  impatient.send({1});
  patient.send({2});
  CHECK(f.turn() == Journal::Result::gathering);
  f.spool.full = true;
  CHECK(f.turn() == Journal::Result::spool_full);
  f.now.steady_ms += 1'000;
  CHECK(f.turn() == Journal::Result::spool_full);
  CHECK(f.counters.events_turned_away == 1);
  f.spool.full = false;
  f.now.steady_ms += 300;
  CHECK(f.turn() == Journal::Result::worked);
  CHECK(f.spool.numbers() == Numbers{2});
}

TEST_CASE("journal: a flood of lines to turn away does not make a turn endless") {
  Fixture f;
  f.spool.full = true;
  CHECK(f.turn() == Journal::Result::spool_full);
  f.now.steady_ms += 1'000;
  Client client(f, OnFull::drop);
  for (std::int64_t i = 0; i < 3'000; ++i) client.send({i});
  CHECK(f.turn() == Journal::Result::worked);
  CHECK(f.counters.events_dropped < 3'000);
  while (f.turn() == Journal::Result::worked) continue;
  CHECK(f.counters.events_dropped == 3'000);
}

TEST_CASE("journal: events of producers that do not wait gather for sync_delay") {
  Fixture f({.sync_delay = std::chrono::milliseconds(2)});
  Client client(f);
  client.send({1});
  auto turn = f.journal.turn(f.now);
  CHECK(turn.result == Journal::Result::gathering);
  CHECK(turn.until_ms == f.now.steady_ms + 2);
  f.now.steady_ms += 1;
  client.send({2});
  turn = f.journal.turn(f.now);
  CHECK(turn.result == Journal::Result::gathering);
  CHECK(turn.until_ms == f.now.steady_ms + 1);
  CHECK(f.spool.blocks.empty());
  f.now.steady_ms += 1;
  CHECK(f.turn() == Journal::Result::worked);
  REQUIRE(f.spool.blocks.size() == 1);
  CHECK(f.spool.numbers() == Numbers{1, 2});
  CHECK(f.turn() == Journal::Result::queue_empty);
}

TEST_CASE("journal: a producer that waits for its ack closes the block at once") {
  Fixture f({.sync_delay = std::chrono::milliseconds(1'000)});
  Client flood(f);
  Client waiting(f, OnFull::wait, AckStage::durable);
  flood.send({1});
  CHECK(f.turn() == Journal::Result::gathering);
  waiting.send({2});
  CHECK(f.turn() == Journal::Result::worked);
  CHECK(waiting.acked() == 1);
  CHECK(f.spool.numbers() == Numbers{1, 2});
  flood.send({3});
  CHECK(f.turn() == Journal::Result::gathering);  // nobody waits any more
  f.journal.finish_soon();
  CHECK(f.turn() == Journal::Result::worked);
}

TEST_CASE("journal: a block closes at its size, however long events may gather") {
  Fixture f({.sync_delay = std::chrono::milliseconds(1'000)});
  for (std::uint64_t i = 0; i < 4; ++i) {
    f.queue.push(*f.producer, chunk_of(f.budget, i * 1000, 1000), {});  // about 88 KB each
  }
  CHECK(f.turn() == Journal::Result::worked);
  CHECK(f.turn() == Journal::Result::gathering);
  CHECK(f.spool.events().size() == 3'000);
}

TEST_CASE("journal: the spool is tended each second, whatever else is done") {
  Fixture f({.sync_delay = std::chrono::milliseconds(100'000)});
  Client client(f);
  client.send({1});
  CHECK(f.turn() == Journal::Result::gathering);
  const int tended = f.spool.tended;
  f.now.steady_ms += 999;
  CHECK(f.turn() == Journal::Result::gathering);
  CHECK(f.spool.tended == tended);
  f.now.steady_ms += 1;
  CHECK(f.turn() == Journal::Result::gathering);
  CHECK(f.spool.tended == tended + 1);
  f.spool.full = true;
  f.now.steady_ms += 1'000;
  CHECK(f.turn() == Journal::Result::spool_full);
  CHECK(f.spool.tended == tended + 2);
}

TEST_CASE("journal: a named producer's lines are stored once, whatever connection they come by") {
  Fixture f;
  const ProducerKey key{7, 7};
  Client first(f, OnFull::wait, AckStage::durable);
  first.named(7, 1).send({1, 2, 3});
  CHECK(f.turn() == Journal::Result::worked);
  REQUIRE(f.spool.marks.size() == 1);
  CHECK(f.spool.marks[0].key == key);
  CHECK(f.spool.marks[0].line == 3);
  CHECK(f.producers.have(key) == 3);

  Client again(f, OnFull::wait, AckStage::durable);
  again.named(7, 2).send({2, 3, 4});
  first.send({4, 5});
  CHECK(f.turn() == Journal::Result::worked);
  CHECK(f.spool.numbers().size() == 5);
  CHECK(f.producers.have(key) == 5);
  CHECK(f.counters.duplicates == 3);
  CHECK(again.acked() == 3);

  again.send({5});
  const int appends = f.spool.appends;
  CHECK(f.turn() == Journal::Result::worked);  // nothing new at all
  CHECK(f.spool.appends == appends);
  CHECK(again.acked() == 4);
}

TEST_CASE("journal: a producer's mark counts when it is durable, and stands for duplicates too") {
  Fixture f;
  const ProducerKey key{7, 7};
  Client client(f);
  client.named(7, 1).send({1, 2}, {71, 71});
  f.spool.refuses = true;
  CHECK(f.turn() == Journal::Result::spool_full);
  CHECK(f.producers.have(key) == 0);
  f.spool.refuses = false;
  CHECK(f.turn() == Journal::Result::worked);
  CHECK(f.producers.have(key) == 2);

  client.send({3}, {71});
  const std::size_t events = f.spool.events().size();
  CHECK(f.turn() == Journal::Result::worked);  // a block of the mark alone
  CHECK(f.spool.events().size() == events);
  CHECK(f.spool.marks.at(0).line == 3);
  CHECK(f.producers.have(key) == 3);
}

TEST_CASE("journal: lines that are turned away leave their producer's mark where it was") {
  Fixture f;
  Client patient(f, OnFull::wait);
  Client impatient(f, OnFull::reject);
  patient.named(7, 1).send({1, 2});
  impatient.named(7, 3).send({3, 4});
  Client other(f, OnFull::reject);
  other.named(8, 1).send({5});
  f.spool.refuses = true;
  CHECK(f.turn() == Journal::Result::spool_full);
  f.spool.refuses = false;
  CHECK(f.turn() == Journal::Result::worked);
  REQUIRE(f.spool.marks.size() == 1);
  CHECK(f.spool.marks[0].line == 2);
  CHECK(f.producers.have({7, 7}) == 2);
  CHECK(f.producers.have({8, 8}) == 0);
  Client again(f, OnFull::wait);
  again.named(7, 3).send({3, 4});
  CHECK(f.turn() == Journal::Result::worked);
  CHECK(f.producers.have({7, 7}) == 4);
  CHECK(f.spool.numbers() == Numbers{1, 2, 3, 4});
}

TEST_CASE("journal: after a chunk that was turned away a named producer's later ones are too") {
  Fixture f;
  Client named(f, OnFull::reject, AckStage::durable);
  Client dropped(f, OnFull::drop, AckStage::durable);
  Client unnamed(f, OnFull::reject, AckStage::durable);
  named.named(7, 1).send({1});
  dropped.named(8, 1).send({2});
  unnamed.send({3});
  f.spool.refuses = true;
  CHECK(f.turn() == Journal::Result::spool_full);
  f.spool.refuses = false;
  named.send({4, 5});  // read before their producer could know
  dropped.send({6});
  unnamed.send({7});
  CHECK(f.turn() == Journal::Result::worked);
  CHECK(f.spool.numbers() == Numbers{7});
  CHECK(f.producers.have({7, 7}) == 0);
  CHECK(f.producers.have({8, 8}) == 0);
  const auto progress = named.progress();
  REQUIRE(progress.nacks.size() == 1);
  CHECK(progress.nacks[0].first_line == 1);
  CHECK(progress.nacks[0].last_line == 3);
  CHECK(progress.nacks[0].code == Refusal::full);
  CHECK(progress.stored + progress.duplicates == 0);
  CHECK(f.counters.events_turned_away == 4);
  CHECK(f.counters.events_dropped == 2);
  CHECK(f.in_memory() == 0);

  // What it sends again over another connection is stored.
  Client again(f, OnFull::reject, AckStage::durable);
  again.named(7, 1).send({1, 4, 5});
  CHECK(f.turn() == Journal::Result::worked);
  CHECK(f.spool.numbers() == Numbers{7, 1, 4, 5});
  CHECK(f.producers.have({7, 7}) == 3);
}

TEST_CASE("journal: a block of nothing but such chunks is none") {
  Fixture f;
  Client named(f, OnFull::reject, AckStage::durable);
  named.named(7, 1).send({1});
  f.spool.refuses = true;
  CHECK(f.turn() == Journal::Result::spool_full);
  f.spool.refuses = false;
  const int appends = f.spool.appends;
  named.send({2});
  CHECK(f.turn() == Journal::Result::worked);
  CHECK(f.turn() == Journal::Result::queue_empty);
  CHECK(f.spool.appends == appends);
  CHECK(named.acked() == 2);
}

TEST_CASE("journal: committed acks come in the order of lines, whichever lane is first") {
  Fixture f;
  Client client(f, OnFull::wait, AckStage::committed);
  for (std::int64_t i = 1; i <= 4; ++i) {  // to lanes 0, 1, 0, 1
    client.send({i});
    CHECK(f.turn() == Journal::Result::worked);
  }
  CHECK(client.progress().stored == 4);
  const auto lane_0 = sluice::tests::numbered_id(0);
  const auto lane_1 = sluice::tests::numbered_id(1);
  f.commits.committed(1, {lane_1, 2});
  CHECK(client.acked() == 0);
  f.commits.committed(0, {lane_0, 1});
  CHECK(client.acked() == 2);
  f.commits.committed(0, {lane_0, 2});
  CHECK(client.acked() == 4);
}

TEST_CASE("journal: a duplicate is committed when its original is, in whatever lane") {
  Fixture f;
  Client client(f);
  Client waiting(f, OnFull::wait, AckStage::committed);
  client.send({1}, {71});
  CHECK(f.turn() == Journal::Result::worked);  // lane 0
  client.send({2});
  CHECK(f.turn() == Journal::Result::worked);  // lane 1
  waiting.send({3}, {71});
  CHECK(f.turn() == Journal::Result::worked);
  f.commits.committed(1, {sluice::tests::numbered_id(1), 1});
  CHECK(waiting.acked() == 0);
  f.commits.committed(0, {sluice::tests::numbered_id(0), 1});
  CHECK(waiting.acked() == 1);
  waiting.send({4}, {71});
  CHECK(f.turn() == Journal::Result::worked);
  CHECK(waiting.acked() == 2);

  client.send({5}, {72});
  CHECK(f.turn() == Journal::Result::worked);  // lane 0
  waiting.send({6, 7}, {72, 73});              // and an event of its own
  CHECK(f.turn() == Journal::Result::worked);  // lane 1
  f.commits.committed(1, {sluice::tests::numbered_id(1), 2});
  CHECK(waiting.acked() == 2);
  f.commits.committed(0, {sluice::tests::numbered_id(0), 2});
  CHECK(waiting.acked() == 4);
}

TEST_CASE("journal: a duplicate of an event of an earlier run is committed when that is") {
  Fixture f;
  f.dedupe.restore({71, 0}, 0, f.now.steady_ms);
  const Uuid earlier = sluice::tests::numbered_id(9);
  f.journal.restore({0, {earlier, 40}});
  Client waiting(f, OnFull::wait, AckStage::committed);
  waiting.send({1}, {71});
  CHECK(f.turn() == Journal::Result::worked);
  f.commits.committed(0, {earlier, 39});
  CHECK(waiting.acked() == 0);
  f.commits.committed(0, {earlier, 40});
  CHECK(waiting.acked() == 1);
}

TEST_CASE("journal: a row that Postgres refused is told to who waits for its commit, by its line") {
  Fixture f;
  Client other(f);
  Client waiting(f, OnFull::wait, AckStage::committed);
  other.send({1, 2}, {71, 72});
  waiting.send({3, 4, 5}, {81, 71, 83});  // the second is a duplicate
  CHECK(f.turn() == Journal::Result::worked);
  const auto lane_0 = sluice::tests::numbered_id(0);
  f.commits.refused(0, {lane_0, 1}, "23514");  // of another producer
  f.commits.refused(0, {lane_0, 3}, "22003");  // the event 5
  f.commits.committed(0, {lane_0, 4});
  const auto progress = waiting.progress();
  CHECK(progress.acked == 3);
  CHECK(progress.stored == 1);
  CHECK(progress.duplicates == 1);
  CHECK(progress.refused_rows == std::vector<AckLedger::RefusedRow>{{3, "22003"}});
}

TEST_CASE("journal: a row is told as refused however early its block is committed") {
  Fixture f;
  Client waiting(f, OnFull::wait, AckStage::committed);
  waiting.send({1, 2, 3, 4});
  f.spool.on_visible = [&](const Position& end) {
    for (std::uint64_t index = 0; index < end.index; ++index) {
      if (index == 1) f.commits.refused(0, {end.segment, index}, "23514");
      f.commits.committed(0, {end.segment, index + 1});
    }
  };
  CHECK(f.turn() == Journal::Result::worked);
  const auto progress = waiting.progress();
  CHECK(progress.acked == 4);
  CHECK(progress.refused_rows == std::vector<AckLedger::RefusedRow>{{2, "23514"}});
}

TEST_CASE("journal: refused rows that nobody waits for are forgotten also when the disk is full") {
  Fixture f;
  Client other(f);
  other.send({1});
  CHECK(f.turn() == Journal::Result::worked);
  f.spool.refuses = GENERATE(false, true);
  other.send({2});
  CHECK(f.turn() != Journal::Result::queue_empty);
  const Uuid earlier = sluice::tests::numbered_id(9);
  for (const LaneIndex lane : {0u, 1u}) {
    f.commits.refused(lane, {earlier, 3}, "23514");
    f.commits.committed(lane, {earlier, 4});
    CHECK(f.commits.refused_kept(lane) == 0);
  }
}

TEST_CASE("journal: order and books hold through random refusals") {
  const std::uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (int history = 0; history < 50; ++history) {
    Fixture f({.sync_delay = std::chrono::milliseconds(random() % 3)});
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 6; ++i) {
      clients.push_back(std::make_unique<Client>(f, static_cast<OnFull>(i % 3), AckStage::durable));
    }
    std::map<std::int64_t, std::uint64_t> sent;  // lines of each client
    std::vector<std::uint64_t> turned_away(clients.size());
    std::vector<std::uint64_t> acked(clients.size());
    const auto stored_of = [&](std::size_t client) {
      Numbers lines = f.spool.numbers();
      std::erase_if(lines,
                    [&](std::int64_t n) { return n >> 32 != static_cast<std::int64_t>(client); });
      return lines;
    };
    const auto look = [&](std::size_t i) {
      const auto progress = clients[i]->progress();
      for (const auto& nack : progress.nacks) {
        turned_away[i] += nack.last_line - nack.first_line + 1;
      }
      acked[i] = progress.acked;
      return acked[i] <= stored_of(i).size() + turned_away[i];
    };
    for (int step = 0; step < 100; ++step) {
      const std::size_t i = random() % clients.size();
      Numbers numbers;
      for (std::uint64_t n = random() % 5; n > 0; --n) {
        const auto client = static_cast<std::int64_t>(i);
        numbers.push_back(client << 32 | static_cast<std::int64_t>(++sent[client]));
      }
      if (!numbers.empty()) clients[i]->send(numbers);
      f.spool.refuses = random() % 4 == 0;
      f.spool.full = random() % 4 == 0;
      f.now.steady_ms += static_cast<std::int64_t>(random() % 500);
      if (random() % 2 == 0) (void)f.turn();
      REQUIRE(look(i));
    }
    f.spool.refuses = f.spool.full = false;
    for (int i = 0; i < 200; ++i) {
      f.now.steady_ms += 2;
      (void)f.turn();
    }
    CHECK(f.in_memory() == 0);
    for (std::size_t i = 0; i < clients.size(); ++i) {
      CHECK(look(i));
      const Numbers lines = stored_of(i);
      CHECK(std::is_sorted(lines.begin(), lines.end()));
      const std::uint64_t all = sent[static_cast<std::int64_t>(i)];
      CHECK(acked[i] == all);
      CHECK(lines.size() + turned_away[i] == all);
      if (i % 3 == 0) CHECK(turned_away[i] == 0);
    }
  }
}
