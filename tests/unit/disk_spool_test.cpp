// The spool on disk: what was appended is read back, in this process and the next one, whatever the
// disk did meanwhile.
#include "spool/disk_spool.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "spool/keys_file.hpp"
#include "spool/segment_format.hpp"
#include "tests/support/fake_disk.hpp"
#include "tests/unit/event_fixture.hpp"

using namespace sluice::spool;
using sluice::tests::append_block;
using sluice::tests::chunk_of;
using sluice::tests::FakeDisk;
using sluice::tests::numbers_from;
using Call = FakeDisk::Call;
using Numbers = std::vector<std::uint64_t>;

namespace {

const std::error_code kEio{EIO, std::system_category()};
const std::error_code kEnospc{ENOSPC, std::system_category()};

struct RecordingReporter final : SpoolReporter {
  void torn_tail(const Uuid&, std::uint64_t bytes) override { torn_bytes += bytes; }
  void quarantined(const Uuid&, std::uint64_t, std::optional<std::uint64_t> events,
                   std::uint64_t) override {
    ++damages;
    lost += events.value_or(0);
  }
  void damaged_at_start(const StartDamage& damage) override { start_damages.push_back(damage); }
  void read_failed(const Uuid&, std::uint64_t, std::error_code) override { ++failed_reads; }
  void file_set_aside(const std::string& name, std::string_view reason) override {
    aside.push_back(name + ": " + std::string(reason));
  }
  void segments_missing(std::uint64_t count) override { missing += count; }
  void segment_poisoned(const Uuid&, std::string_view, std::error_code) override { ++poisoned; }
  void full(std::string_view) override { ++fulls; }
  void room_again() override { ++rooms; }
  void synced(std::chrono::microseconds) override { ++syncs; }
  void keys_unwritten(const std::string&, std::string_view) override { ++keys_unwrites; }
  void keys_lost(const std::string&, std::string_view) override { ++keys_losses; }

  std::uint64_t torn_bytes = 0;
  std::uint64_t lost = 0;
  std::uint64_t missing = 0;
  int damages = 0;
  int failed_reads = 0;
  int poisoned = 0;
  int fulls = 0;
  int rooms = 0;
  int syncs = 0;
  int keys_unwrites = 0;
  int keys_losses = 0;
  std::vector<StartDamage> start_damages;
  std::vector<std::string> aside;
};

// An event whose dedupe key is its number.
Chunk keyed_chunk(ByteBudget& budget, std::uint64_t n) {
  RecordHeader header{};
  header.flags = kHasDedupeKey;
  header.dedupe_hash[0] = n;
  header.id = sluice::tests::numbered_id(n);
  Chunk chunk(budget, 500);
  chunk.append(header, {}, "{}", "");
  return chunk;
}

DiskSpoolOptions small(std::size_t lanes = 1) {
  DiskSpoolOptions options;
  options.lanes = lanes;
  options.segment_bytes = 2'000;
  options.reserve_bytes = 0;
  options.seed = 7;
  return options;
}

// A disk, and the process that uses it.
struct Fixture {
  explicit Fixture(DiskSpoolOptions o = small()) : options(o) { start(); }

  void start() {
    ++options.seed;
    producers = std::make_unique<ProducerTable>(100);
    DiskSpool::Callbacks callbacks;
    callbacks.on_released = [this](LaneIndex, const Position& upto) { on_released(upto); };
    spool = std::make_unique<DiskSpool>(options, disk, *producers, reporter, callbacks, now);
  }
  void kill_and_restart() {
    spool.reset();
    disk.crash();
    disk.restart();
    start();
  }
  void cut_power_and_restart() {
    spool.reset();
    disk.power_cut();
    disk.restart();
    start();
  }
  Position append(std::uint64_t first, std::uint64_t count, LaneIndex lane = 0) {
    return append_block(*spool, lane, chunk_of(budget, first, count), now);
  }
  [[nodiscard]] bool try_append(std::uint64_t first, std::uint64_t count, LaneIndex lane = 0) {
    std::vector<Chunk> chunks;
    chunks.push_back(chunk_of(budget, first, count));
    const bool done = spool->append(lane, chunks, {}, now).has_value();
    CHECK(chunks.empty() == done);
    return done;
  }
  [[nodiscard]] std::size_t first_file_bytes() const;
  void flip_first_file(std::size_t offset);
  // Also one that is written anew, beside its segment.
  [[nodiscard]] bool is_side_file(const std::string& name) const {
    const auto anew = parse_segment_name(name, ".tmp");
    return name.ends_with(".keys") ||
           (anew && !disk.content(segment_name(anew->ordinal, anew->id, ".log")).empty());
  }
  [[nodiscard]] Numbers kill_and_find_keys() {
    kill_and_restart();
    Numbers keys;
    spool->recovered_keys(0, 1'000, [&](const RememberedKey& key) { keys.push_back(key.hash[0]); });
    std::sort(keys.begin(), keys.end());
    return keys;
  }
  void pass(std::int64_t ms) {
    now.unix_us += ms * 1000;
    now.steady_ms += ms;
    spool->tend(now);
  }

  // All that the lane delivers from its watermarks on, confirmed segment by segment.
  Numbers deliver(LaneIndex lane = 0, bool release = true) {
    SpoolReader& reader = spool->reader(lane);
    Numbers numbers;
    for (auto segment = reader.first_segment(); segment; segment = reader.first_segment()) {
      Position at{segment->id, watermarks[segment->id]};
      for (;;) {
        const ReadResult found = reader.read(at);
        if (const auto* block = std::get_if<BlockPtr>(&found)) {
          const std::uint64_t from = std::max(at.index, (*block)->first_index);
          for (const auto number : numbers_from(*block, from)) numbers.push_back(number);
          at.index = (*block)->end_index();
          continue;
        }
        if (!release) return numbers;
        reader.release(at);
        watermarks[at.segment] = at.index;
        if (std::holds_alternative<NothingYet>(found)) return numbers;
        reader.confirm(at.segment);
        break;
      }
    }
    return numbers;
  }

  DiskSpoolOptions options;
  std::function<void(const Position&)> on_released = [](const Position&) {};
  FakeDisk disk{1};
  ByteBudget budget{1'000'000'000};
  RecordingReporter reporter;
  std::map<Uuid, std::uint64_t> watermarks;
  SpoolTime now{1'767'225'600'000'000, 5'000};
  std::unique_ptr<ProducerTable> producers;
  std::unique_ptr<DiskSpool> spool;
};

Numbers upto(std::uint64_t end) {
  Numbers numbers;
  for (std::uint64_t n = 0; n < end; ++n) numbers.push_back(n);
  return numbers;
}

std::vector<std::string> segment_files(const FakeDisk& disk) {
  std::vector<std::string> names;
  for (const std::string& name : disk.names()) {
    if (parse_segment_name(name, ".log")) names.push_back(name);
  }
  return names;
}

std::size_t Fixture::first_file_bytes() const {
  return disk.content(segment_files(disk).front()).size();
}

void Fixture::flip_first_file(std::size_t offset) {
  const std::string name = segment_files(disk).front();
  auto bytes = disk.content(name);
  bytes.at(offset) ^= std::byte{1};
  disk.set_content(name, bytes);
}

}  // namespace

TEST_CASE("disk spool: what is appended is read in order, from memory") {
  Fixture f;
  f.append(0, 3);
  f.append(3, 2);
  CHECK(f.spool->events_held() == 5);
  CHECK(f.deliver() == upto(5));
  CHECK(f.spool->events_held() == 0);
}

TEST_CASE("disk spool: a lane that lags reads the files") {
  DiskSpoolOptions options = small();
  options.cached_bytes_max = 300;
  Fixture f(options);
  for (std::uint64_t n = 0; n < 60; n += 2) f.append(n, 2);
  CHECK(f.budget.used_bytes() <= 400);
  CHECK(segment_files(f.disk).size() > 3);
  CHECK(f.deliver() == upto(60));
}

TEST_CASE("disk spool: after a crash all that was appended is there, once") {
  Fixture f;
  for (std::uint64_t n = 0; n < 40; n += 2) f.append(n, 2);
  for (int i = 0; i < 3; ++i) {
    f.kill_and_restart();
    CHECK(f.spool->events_recovered() == 40);
    CHECK(f.deliver(0, false).size() > 0);
  }
  CHECK(f.deliver() == upto(40));
  CHECK(f.reporter.damages == 0);
  CHECK(f.reporter.torn_bytes == 0);
}

TEST_CASE("disk spool: a power cut takes nothing that append() has returned for") {
  for (int tries = 0; tries < 20; ++tries) {
    Fixture f(small(2));
    std::uint64_t next = 0;
    for (int run = 0; run < 4; ++run) {
      for (int i = 0; i < 5; ++i, ++next) f.append(next, 1, next % 2);
      if (run == 2) f.pass(1'500);
      f.cut_power_and_restart();
    }
    Numbers all = f.deliver(0);
    const Numbers others = f.deliver(1);
    all.insert(all.end(), others.begin(), others.end());
    std::sort(all.begin(), all.end());
    CHECK(all == upto(20));
    CHECK(f.reporter.damages == 0);
  }
}

TEST_CASE("disk spool: a torn last block is cut and nothing before it is lost") {
  Fixture f;
  f.append(0, 2);
  f.append(2, 2);
  const std::string name = segment_files(f.disk).front();
  auto bytes = f.disk.content(name);
  bytes.resize(bytes.size() - 9);
  f.disk.set_content(name, bytes);
  f.kill_and_restart();
  CHECK(f.deliver() == upto(2));
  CHECK(f.reporter.torn_bytes > 0);
  CHECK(f.reporter.damages == 0);
}

TEST_CASE("disk spool: a bad block below the synced length is quarantined and counted") {
  Fixture f;
  f.append(0, 2);
  const auto second = f.disk.content(segment_files(f.disk).front()).size();
  f.append(2, 3);
  f.append(5, 2);
  const std::string name = segment_files(f.disk).front();
  auto bytes = f.disk.content(name);
  bytes[second + 100] ^= std::byte{1};
  f.disk.set_content(name, bytes);
  f.kill_and_restart();
  CHECK(f.deliver() == Numbers{0, 1, 5, 6});
  CHECK(f.reporter.lost == 3);
  CHECK(f.reporter.torn_bytes == 0);
  CHECK_FALSE(f.disk.content("quarantine/" + name + "-" + std::to_string(second)).empty());
  CHECK(f.spool->events_held() == 0);
}

TEST_CASE("disk spool: what the disk cannot read for a moment is read again, not lost") {
  Fixture f;
  f.append(0, 2);
  f.append(2, 3);
  f.kill_and_restart();
  SpoolReader& reader = f.spool->reader(0);
  const Position start{reader.first_segment()->id, 0};
  f.disk.fault = [](Call call, const std::string&) {
    return call == Call::read ? kEio : std::error_code{};
  };
  for (int tries = 0; tries < 3; ++tries) {
    CHECK(std::holds_alternative<UnreadableNow>(reader.read(start)));
  }
  f.disk.fault = {};
  CHECK(f.deliver() == upto(5));
  CHECK(f.reporter.failed_reads == 1);
  CHECK(f.reporter.damages == 0);
}

TEST_CASE("disk spool: what can never be read costs the block that it is in, and no other") {
  DiskSpoolOptions options = small();
  options.segment_bytes = 100'000;
  Fixture f(options);
  f.append(0, 2);
  f.append(2, 2);
  const std::string name = segment_files(f.disk).front();
  const std::uint64_t third = f.disk.content(name).size();
  f.append(4, 120);
  const std::uint64_t fourth = f.disk.content(name).size();
  REQUIRE(fourth - third > 2 * 4096);
  f.append(124, 2);
  const std::uint64_t bad_byte = GENERATE(0, 100);  // in the block's header, in its records
  f.kill_and_restart();
  f.disk.unreadable = {{name, third + bad_byte, third + bad_byte + 1}};

  SpoolReader& reader = f.spool->reader(0);
  Position at{reader.first_segment()->id, 0};
  Numbers numbers;
  int waits = 0;
  for (;;) {
    const ReadResult found = reader.read(at);
    if (std::holds_alternative<EndOfSegment>(found)) break;
    if (std::holds_alternative<UnreadableNow>(found)) {
      REQUIRE(++waits < 100);
      continue;
    }
    const auto& block = std::get<BlockPtr>(found);
    for (const auto number : numbers_from(block, block->first_index)) numbers.push_back(number);
    at.index = block->end_index();
  }
  CHECK(numbers == Numbers{0, 1, 2, 3, 124, 125});
  CHECK(waits == 29);
  CHECK(f.reporter.failed_reads == 1);
  CHECK(f.reporter.damages == 1);
  CHECK(f.reporter.lost == 120);
  // What could be read of it is kept.
  const auto kept = f.disk.content("quarantine/" + name + "-" + std::to_string(third));
  CHECK(kept.size() == fourth - third);
}

TEST_CASE("disk spool: events that are not there although no byte is bad are counted") {
  const bool ends_with_events = GENERATE(true, false);
  Fixture f;
  f.append(0, 2);
  const std::string name = segment_files(f.disk).front();
  const auto second = static_cast<std::ptrdiff_t>(f.disk.content(name).size());
  f.append(2, 3);
  const auto third = static_cast<std::ptrdiff_t>(f.disk.content(name).size());
  if (ends_with_events) f.append(5, 2);
  f.pass(1'500);  // an empty block comes behind
  auto bytes = f.disk.content(name);
  REQUIRE(static_cast<std::ptrdiff_t>(bytes.size()) > third);
  bytes.erase(bytes.begin() + second, bytes.begin() + third);
  f.disk.set_content(name, bytes);
  f.kill_and_restart();
  CHECK(f.deliver() == (ends_with_events ? Numbers{0, 1, 5, 6} : Numbers{0, 1}));
  CHECK(f.reporter.lost == 3);
  CHECK(f.spool->events_held() == 0);
}

TEST_CASE("disk spool: a failed sync moves the group to a segment that supersedes") {
  for (const bool crash : {false, true}) {
    Fixture f;
    f.append(0, 2);
    int fails = 1;
    f.disk.fault = [&](Call call, const std::string&) {
      return call == Call::sync && fails-- > 0 ? kEio : std::error_code{};
    };
    f.append(2, 2);
    f.append(4, 1);
    CHECK(f.reporter.poisoned == 1);
    CHECK(segment_files(f.disk).size() == 2);
    if (crash) f.kill_and_restart();
    CHECK(f.deliver() == upto(5));
  }
}

TEST_CASE(
    "disk spool: a group that failed goes nowhere before the poisoned segment's end is told") {
  Fixture f(small(2));
  f.append(0, 1, 0);
  f.append(1, 1, 1);
  // The sync fails, and so does every try to make another file.
  bool broken = true;
  f.disk.fault = [&](Call call, const std::string& name) {
    if (!broken) return std::error_code{};
    const bool new_file = call == Call::open && name.ends_with(".tmp");
    return call == Call::sync || new_file ? kEio : std::error_code{};
  };
  CHECK_FALSE(f.try_append(2, 1, 0));
  // The other lane's segment could be written; the group may stand in the first one.
  f.disk.fault = [&](Call call, const std::string& name) {
    return call == Call::open && name.ends_with(".tmp") ? kEio : std::error_code{};
  };
  CHECK_FALSE(f.try_append(2, 1, 1));
  f.disk.fault = {};
  f.append(2, 1, 1);
  f.kill_and_restart();
  Numbers all = f.deliver(0);
  for (const auto number : f.deliver(1)) all.push_back(number);
  std::sort(all.begin(), all.end());
  CHECK(all == upto(3));
}

TEST_CASE("disk spool: a full disk takes nothing, keeps what it has, and goes on by itself") {
  Fixture f;
  f.append(0, 2);
  f.disk.fault = [](Call call, const std::string&) {
    return call == Call::write ? kEnospc : std::error_code{};
  };
  CHECK_FALSE(f.try_append(2, 2));
  CHECK_FALSE(f.spool->why_full().empty());
  CHECK_FALSE(f.spool->lane_with_room(f.now));
  f.disk.fault = {};
  f.pass(1'000);
  CHECK(f.spool->why_full().empty());
  REQUIRE(f.spool->lane_with_room(f.now));
  f.append(2, 2);
  f.kill_and_restart();
  CHECK(f.deliver() == upto(4));
}

TEST_CASE("disk spool: the reserve that a full disk made small grows when there is room") {
  Fixture f;
  constexpr std::uint64_t kKiB = 1024;
  f.options.reserve_bytes = 1024 * kKiB;
  f.disk.capacity_bytes = 200 * kKiB;
  f.kill_and_restart();
  const auto reserve_bytes = [&f] { return f.disk.content("RESERVE").size(); };
  CHECK(reserve_bytes() == 128 * kKiB);
  f.pass(11'000);
  CHECK(reserve_bytes() == 128 * kKiB);  // a try that fails gives up nothing
  f.disk.capacity_bytes = 100'000 * kKiB;
  for (int i = 0; i < 4; ++i) f.pass(11'000);
  CHECK(reserve_bytes() == 1024 * kKiB);
}

TEST_CASE("disk spool: at its cap it is full until something was delivered") {
  DiskSpoolOptions options = small();
  options.bytes_max = 8'000;
  Fixture f(options);
  std::uint64_t next = 0;
  while (f.spool->lane_with_room(f.now)) f.append(next++, 1);
  CHECK(f.spool->bytes() <= options.bytes_max);
  CHECK(f.spool->why_full().find("bytes_max") != std::string::npos);
  CHECK(f.deliver() == upto(next));
  f.pass(1'000);
  REQUIRE(f.spool->lane_with_room(f.now));
  f.append(next, 1);
  CHECK(f.deliver() == Numbers{next});
}

TEST_CASE("disk spool: one that is at its cap when it starts has room when that was delivered") {
  DiskSpoolOptions options = small(2);
  options.bytes_max = 12'000;
  Fixture f(options);
  std::uint64_t next = 0;
  while (const auto lane = f.spool->lane_with_room(f.now)) f.append(next++, 1, *lane);
  f.kill_and_restart();
  REQUIRE_FALSE(f.spool->lane_with_room(f.now));
  CHECK(f.deliver(0).size() + f.deliver(1).size() == next);
  f.pass(2'000);
  CHECK(f.spool->why_full().empty());
  const auto lane = f.spool->lane_with_room(f.now);
  REQUIRE(lane);
  f.append(next, 1, *lane);
  CHECK(f.deliver(*lane) == Numbers{next});
}

TEST_CASE(
    "disk spool: a delivered segment is kept for retain_time, and can be rewound until then") {
  DiskSpoolOptions options = small();
  options.retain_time = std::chrono::seconds(60);
  Fixture f(options);
  for (std::uint64_t n = 0; n < 30; ++n) f.append(n, 1);
  const auto files = segment_files(f.disk).size();
  CHECK(f.deliver() == upto(30));
  f.pass(1'000);
  CHECK(segment_files(f.disk).size() == files);
  SpoolReader& reader = f.spool->reader(0);
  const auto kept = reader.delivered();
  REQUIRE(kept.size() == files - 1);
  reader.rewind({kept.front().segment, 1});
  f.watermarks[kept.front().segment] = 1;
  CHECK(reader.first_segment()->id == kept.front().segment);
  CHECK(f.spool->events_held() == kept.front().index - 1);
  const Numbers again = f.deliver();
  CHECK(again.size() == kept.front().index - 1);
  CHECK(again.front() == 1);
  f.pass(1'000);
  f.pass(60'000);
  CHECK(segment_files(f.disk).size() == 1);
  CHECK(reader.delivered().empty());
}

TEST_CASE(
    "disk spool: files go in the order of their ordinals, so a hole is a file that was taken") {
  DiskSpoolOptions options = small(2);
  options.retain_time = std::chrono::seconds(0);
  Fixture f(options);
  for (std::uint64_t n = 0; n < 40; ++n) f.append(n, 1, n % 2);
  const auto delivered = f.deliver(1);  // the other lane's wait
  f.pass(1'000);
  f.pass(1'000);
  f.kill_and_restart();
  CHECK(f.reporter.missing == 0);
  const auto files = segment_files(f.disk);
  f.spool.reset();
  CHECK_FALSE(f.disk.remove(files[files.size() / 2]));
  f.start();
  CHECK(f.reporter.missing == 1);
}

TEST_CASE("disk spool: a name or a removal that fails leaves no hole in the ordinals") {
  DiskSpoolOptions options = small();
  options.retain_time = std::chrono::seconds(0);
  Fixture f(options);
  std::uint64_t next = 0;
  const auto fail_once = [&](Call failing) {
    f.disk.fault = [failing, fails = 1](Call call, const std::string& name) mutable {
      const bool is_it = call == failing && (name.empty() || name.ends_with(".log"));
      return is_it && fails-- > 0 ? kEio : std::error_code{};
    };
  };
  while (segment_files(f.disk).size() < 2) f.append(next++, 1);
  SECTION("a segment's name that cannot be synced") {
    while (f.disk.content(segment_files(f.disk).back()).size() < 2'000) f.append(next++, 1);
    fail_once(Call::sync_directory);
    REQUIRE_FALSE(f.try_append(next, 1));
    f.append(next++, 1);
  }
  SECTION("a file that cannot be removed before the others") {
    while (segment_files(f.disk).size() < 4) f.append(next++, 1);
    CHECK(f.deliver() == upto(next));
    fail_once(Call::remove);
    f.pass(1'000);
  }
  f.disk.fault = {};
  f.kill_and_restart();
  CHECK(f.reporter.missing == 0);
}

TEST_CASE("disk spool: producers' numbers survive their segments") {
  DiskSpoolOptions options = small();
  options.retain_time = std::chrono::seconds(0);
  Fixture f(options);
  const ProducerKey key{11, 12};
  for (std::uint64_t n = 0; n < 30; ++n) {
    std::vector<Chunk> chunks;
    chunks.push_back(chunk_of(f.budget, n, 1));
    const std::vector<ProducerMark> marks{{key, n + 1}};
    REQUIRE(f.spool->append(0, chunks, marks, f.now));
    f.producers->advance(marks);
  }
  f.kill_and_restart();
  CHECK(f.producers->have(key) == 30);
  f.append(30, 1);
  (void)f.deliver();
  for (int i = 0; i < 3; ++i) f.pass(1'000);
  CHECK(segment_files(f.disk).size() == 1);
  f.kill_and_restart();
  CHECK(f.producers->have(key) == 30);
}

TEST_CASE(
    "disk spool: foreign files stay, broken ones go to quarantine, a newer version stops it") {
  Fixture f;
  f.append(0, 1);
  f.spool.reset();
  const std::string text = "not a segment";
  f.disk.set_content("notes.txt", std::as_bytes(std::span(text)));
  const std::string name = segment_name(900, Uuid::random(), ".log");
  f.disk.set_content(name, {});
  f.start();
  CHECK(f.reporter.aside.size() == 2);
  CHECK(f.deliver() == upto(1));
  f.spool.reset();
  const std::string version = "sluice-spool 2\n";
  f.disk.set_content("VERSION", std::as_bytes(std::span(version)));
  CHECK_THROWS_AS(f.start(), NewerFormat);
}

TEST_CASE("disk spool: a tail that a failed sync left in doubt is written again at start") {
  Fixture f;
  f.append(0, 2);
  // Written, not synced, and then the process ends.
  f.disk.fault = [](Call call, const std::string& name) {
    const bool new_file = call == Call::open && name.ends_with(".tmp");
    return call == Call::sync || new_file ? kEio : std::error_code{};
  };
  CHECK_FALSE(f.try_append(2, 2));
  f.disk.fault = {};
  f.kill_and_restart();
  const Numbers numbers = f.deliver();
  // The events of a group that was not acked may be there or not, but never in part.
  CHECK((numbers == upto(2) || numbers == upto(4)));
  f.watermarks.clear();
  f.cut_power_and_restart();
  CHECK(f.deliver() == numbers);
}

TEST_CASE("disk spool: a tail that cannot be made durable at a start counts when it is") {
  Fixture f;
  const ProducerKey key{11, 12};
  const auto append_marked = [&](std::uint64_t n) {
    std::vector<Chunk> chunks;
    chunks.push_back(chunk_of(f.budget, n, 1));
    const std::vector<ProducerMark> marks{{key, n + 1}};
    REQUIRE(f.spool->append(0, chunks, marks, f.now));
  };
  append_marked(0);
  append_marked(1);
  f.disk.fault = [](Call call, const std::string& name) {
    const bool new_file = call == Call::open && name.ends_with(".tmp");
    return call == Call::sync || new_file ? kEio : std::error_code{};
  };
  f.kill_and_restart();
  CHECK(f.reporter.poisoned == 1);
  CHECK_FALSE(f.spool->lane_with_room(f.now));
  CHECK_FALSE(f.try_append(2, 1));
  CHECK(f.spool->why_full().find("cannot be made durable") != std::string::npos);
  CHECK(f.producers->have(key) == 1);
  CHECK(f.deliver() == upto(1));
  f.pass(1'000);
  f.now.steady_ms += 1'000;
  CHECK_FALSE(f.spool->lane_with_room(f.now));

  f.disk.fault = {};
  SECTION("the disk recovers") {
    f.pass(1'000);
    CHECK(f.spool->why_full().empty());
    CHECK(f.producers->have(key) == 2);
    CHECK(f.spool->lane_with_room(f.now));
    CHECK(f.spool->events_recovered() == 2);
    CHECK(f.deliver() == Numbers{1});
    f.watermarks.clear();
    f.cut_power_and_restart();
    CHECK(f.producers->have(key) == 2);
    CHECK(f.deliver() == upto(2));
  }
  SECTION("the next start finds it on the medium") {
    f.cut_power_and_restart();
    CHECK(f.producers->have(key) == 2);
    CHECK(f.deliver() == Numbers{1});
  }
}

TEST_CASE("disk spool: events that were delivered stay what they were if their sync fails later") {
  for (const bool synced_before : {true, false}) {
    DiskSpoolOptions options = small();
    if (!synced_before) options.durability = Durability::process;
    Fixture f(options);
    f.append(0, 2);
    f.append(2, 2);
    CHECK(f.deliver() == upto(4));
    f.options.durability = Durability::power;
    f.disk.fault = [](Call call, const std::string& name) {
      return call == Call::sync && name.ends_with(".log") ? kEio : std::error_code{};
    };
    f.kill_and_restart();
    CHECK(f.reporter.poisoned == 1);
    f.disk.fault = {};
    CHECK(f.deliver().empty());
    f.append(4, 1);
    f.cut_power_and_restart();
    CHECK(f.deliver() == Numbers{4});
    // A failover has lost all of it.
    f.watermarks.clear();
    f.kill_and_restart();
    CHECK(f.deliver() == upto(5));
    CHECK(f.reporter.damages == 0);
  }
}

TEST_CASE("disk spool: a finished segment that cannot be read waits for another start") {
  DiskSpoolOptions options = small();
  options.retain_time = std::chrono::seconds(0);
  Fixture f(options);
  std::uint64_t next = 0;
  while (segment_files(f.disk).size() < 4) f.append(next++, 1);
  const std::string unreadable = segment_files(f.disk)[1];
  const auto content = f.disk.content(unreadable);
  f.disk.fault = [&](Call call, const std::string& name) {
    return call == Call::read && name == unreadable ? kEio : std::error_code{};
  };
  f.kill_and_restart();
  CHECK(f.reporter.aside.size() == 1);
  CHECK(f.spool->why_full().empty());
  Numbers all = f.deliver();
  // Whole segments come and go meanwhile.
  while (segment_files(f.disk).size() < 8) f.append(next++, 1);
  for (const auto number : f.deliver()) all.push_back(number);
  for (int i = 0; i < 3; ++i) f.pass(1'000);
  CHECK(f.disk.content(unreadable) == content);
  CHECK(all.size() < next);
  CHECK(f.spool->events_held() == 0);

  f.disk.fault = {};
  f.kill_and_restart();
  for (const auto number : f.deliver()) all.push_back(number);
  std::sort(all.begin(), all.end());
  CHECK(all == upto(next));
  CHECK(f.reporter.missing == 0);
  CHECK(f.reporter.damages == 0);
  CHECK(f.reporter.torn_bytes == 0);
  f.append(next, 1);
  f.pass(1'000);
  CHECK(f.disk.content(unreadable).empty());
}

TEST_CASE("disk spool: nothing is taken while an open segment cannot be read") {
  // At its header, at its head, at where a seal would be, and at its blocks.
  const int calls_before = GENERATE(0, 1, 2, 3);
  Fixture f(small(2));
  const ProducerKey key{11, 12};
  for (std::uint64_t n = 0; n < 8; ++n) {
    std::vector<Chunk> chunks;
    chunks.push_back(chunk_of(f.budget, n, 1));
    const std::vector<ProducerMark> marks{{key, n + 1}};
    REQUIRE(f.spool->append(n % 2, chunks, marks, f.now));
  }
  const std::string unreadable = segment_files(f.disk)[1];
  int calls = 0;
  f.disk.fault = [&](Call call, const std::string& name) {
    const bool is_it = call == Call::read && name == unreadable;
    return is_it && calls++ >= calls_before ? kEio : std::error_code{};
  };
  f.kill_and_restart();
  CHECK(f.reporter.aside.size() == 1);
  CHECK(f.spool->why_full().find("cannot be read") != std::string::npos);
  CHECK_FALSE(f.spool->lane_with_room(f.now));
  CHECK_FALSE(f.try_append(8, 1));
  Numbers all = f.deliver(0);
  for (const auto number : f.deliver(1)) all.push_back(number);
  // What was known to be durable in the other one, and the lane waits for more.
  CHECK(all == Numbers{0, 2, 4});
  f.pass(1'000);
  f.now.steady_ms += 1'000;
  CHECK_FALSE(f.spool->lane_with_room(f.now));

  f.disk.fault = {};
  f.kill_and_restart();
  CHECK(f.producers->have(key) == 8);
  for (const LaneIndex lane : {0, 1}) {
    for (const auto number : f.deliver(lane)) all.push_back(number);
  }
  std::sort(all.begin(), all.end());
  CHECK(all == upto(8));
  CHECK(f.spool->lane_with_room(f.now));
  CHECK(f.reporter.damages == 0);
  CHECK(f.reporter.torn_bytes == 0);
  CHECK(f.reporter.missing == 0);
}

TEST_CASE("disk spool: the example in docs/spool_format.md is what a spool writes") {
  DiskSpoolOptions options = small();
  options.seed = 41;  // start() takes the next
  Fixture f(options);
  RecordHeader header{};
  header.uid = 1000;
  header.received_us = header.occurred_us = f.now.unix_us;
  header.id = sluice::tests::numbered_id(1);
  FieldSpan type{};
  type.begin = 8;
  type.length = 5;
  Chunk chunk(f.budget, 500);
  chunk.append(header, std::span(&type, 1), R"({"type":"log"})", "");
  append_block(*f.spool, 0, std::move(chunk), f.now);
  f.now.steady_ms += 1'500;
  f.spool->tend(f.now);

  // The bytes of the dump: "<offset>: <four groups of eight digits>  <text>".
  std::ifstream page(SLUICE_SOURCE_DIR "/docs/spool_format.md");
  std::string dumped;
  for (std::string line; std::getline(page, line);) {
    if (line.size() < 45 || line.compare(8, 2, ": ") != 0) continue;
    for (const char c : line.substr(10, 35)) {
      if (c != ' ') dumped += c;
    }
  }
  std::string written;
  for (const std::byte byte : f.disk.content(segment_files(f.disk).front())) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    written += kDigits[std::to_integer<unsigned>(byte) >> 4];
    written += kDigits[std::to_integer<unsigned>(byte) & 15];
  }
  CHECK(written == dumped);
}

TEST_CASE(
    "disk spool: it says where each lane's events of earlier runs end, and when they are done") {
  Fixture f(small(2));
  CHECK_FALSE(f.spool->recovered_end(0));
  (void)f.append(0, 3, 0);
  const Position end = f.append(3, 2, 0);
  std::vector<Position> told;
  f.on_released = [&](const Position& upto) { told.push_back(upto); };
  f.kill_and_restart();
  CHECK(f.spool->recovered_end(0) == end);
  CHECK_FALSE(f.spool->recovered_end(1));
  (void)f.deliver();
  REQUIRE(told.size() == 2);
  CHECK(told[0] == end);
  CHECK(told[1] == Position{end.segment, UINT64_MAX});  // confirmed
}

TEST_CASE("disk spool: dedupe keys of finished, open and deleted segments are remembered") {
  DiskSpoolOptions options = small();
  options.retain_time = std::chrono::seconds(0);
  Fixture f(options);
  const auto append_key = [&](std::uint64_t n) {
    RecordHeader header{};
    header.flags = kHasDedupeKey;
    header.dedupe_hash[0] = n;
    Chunk chunk(f.budget, 500);
    chunk.append(header, {}, "{}", "");
    append_block(*f.spool, 0, std::move(chunk), f.now);
    f.now.unix_us += 1'000;
  };
  const auto remembered = [&](std::int64_t since_us, std::uint64_t keys_max) {
    Numbers keys;
    f.spool->recovered_keys(since_us, keys_max,
                            [&](const RememberedKey& key) { keys.push_back(key.hash[0]); });
    return keys;
  };
  const std::int64_t began_us = f.now.unix_us;
  for (std::uint64_t n = 0; n < 30; ++n) append_key(n);
  (void)f.deliver();
  f.pass(1'000);
  f.pass(1'000);
  REQUIRE(segment_files(f.disk).size() == 1);
  f.kill_and_restart();
  CHECK(remembered(began_us, 1'000) == upto(30));
  CHECK(remembered(began_us + 28'000, 1'000) == Numbers{28, 29});
  CHECK(remembered(began_us, 3) == Numbers{27, 28, 29});

  // When the window has passed the side files go.
  f.pass(601'000);
  f.kill_and_restart();
  f.pass(1'000);
  for (const std::string& name : f.disk.names()) {
    const auto named = parse_segment_name(name, ".keys");
    CHECK((!named || !f.disk.content(segment_name(named->ordinal, named->id, ".log")).empty()));
  }
}

TEST_CASE(
    "disk spool: a new segment whose name cannot be synced takes nothing from the one before") {
  for (int tries = 0; tries < 20; ++tries) {
    Fixture f;
    std::uint64_t next = 0;
    while (segment_files(f.disk).size() < 2) f.append(next++, 1);
    while (f.disk.content(segment_files(f.disk).back()).size() < 2'000) f.append(next++, 1);
    int fails = 1;
    f.disk.fault = [&](Call call, const std::string&) {
      return call == Call::sync_directory && fails-- > 0 ? kEio : std::error_code{};
    };
    CHECK_FALSE(f.try_append(next, 1));
    for (int i = 0; i < 5; ++i) f.append(next++, 1);
    f.cut_power_and_restart();
    CHECK(f.deliver() == upto(next));
  }
}

TEST_CASE("disk spool: keys that a side file did not take are read from the segment at a start") {
  Fixture f;
  const auto append_key = [&](std::uint64_t n) {
    append_block(*f.spool, 0, keyed_chunk(f.budget, n), f.now);
    f.now.unix_us += 1'000;
  };
  int fails = 1;
  f.disk.fault = [&](Call call, const std::string& name) {
    const bool fail = call == Call::write && name.ends_with(".keys") && fails-- > 0;
    return fail ? kEnospc : std::error_code{};
  };
  std::uint64_t next = 0;
  // The segment ends, another tells of it, and so once more after a restart.
  for (int run = 0; run < 2; ++run) {
    for (int i = 0; i < 30; ++i) append_key(next++);
    f.kill_and_restart();
    Numbers keys;
    f.spool->recovered_keys(0, 1'000,
                            [&](const RememberedKey& key) { keys.push_back(key.hash[0]); });
    std::sort(keys.begin(), keys.end());
    CHECK(keys == upto(next));
  }
  CHECK(f.reporter.keys_unwrites == 1);
  CHECK(f.deliver() == upto(next));
}

TEST_CASE("disk spool: a segment with a damaged header is taken by its name") {
  Fixture f;
  std::uint64_t next = 0;
  while (segment_files(f.disk).size() < 3) {
    append_block(*f.spool, 0, keyed_chunk(f.budget, next++), f.now);
  }
  const std::uint64_t seed = f.spool->hash_seed();
  const auto flip = [&](std::size_t file) {
    const std::string name = segment_files(f.disk)[file];
    auto bytes = f.disk.content(name);
    bytes[50] ^= std::byte{1};  // of the seed
    f.disk.set_content(name, bytes);
  };
  SECTION("the others have the seed") {
    flip(GENERATE(0, 2));
    CHECK(f.kill_and_find_keys() == upto(next));
    CHECK(f.spool->hash_seed() == seed);
    CHECK(f.reporter.keys_losses == 0);
    CHECK(f.reporter.damages == 1);
  }
  SECTION("nobody has the seed: that is said") {
    for (std::size_t file = 0; file < 3; ++file) flip(file);
    (void)f.kill_and_find_keys();
    CHECK(f.reporter.keys_losses == 1);
    CHECK(f.reporter.damages == 3);
  }
  CHECK(f.reporter.aside.empty());
  CHECK(f.deliver() == upto(next));
}

TEST_CASE("disk spool: keys are remembered of a start that finds no room for their side file") {
  Fixture f;
  for (std::uint64_t n = 0; n < 5; ++n) {
    append_block(*f.spool, 0, keyed_chunk(f.budget, n), f.now);
  }
  f.disk.fault = [&](Call call, const std::string& name) {
    return call == Call::open && f.is_side_file(name) ? kEnospc : std::error_code{};
  };
  CHECK(f.kill_and_find_keys() == upto(5));
  CHECK(f.reporter.keys_unwrites == 1);
  CHECK(f.kill_and_find_keys() == upto(5));
}

TEST_CASE("disk spool: a side file that finds no room is cut down to the segment's own keys") {
  // Of a segment of five blocks, as many are there again after a crash; the side file has all keys.
  const std::size_t kept = GENERATE(0, 1, 4, 5);
  Fixture f;
  std::vector<std::vector<std::byte>> contents;
  for (std::uint64_t n = 0; n < 5; ++n) {
    contents.push_back(segment_files(f.disk).empty() ? std::vector<std::byte>()
                                                     : f.disk.content(segment_files(f.disk)[0]));
    append_block(*f.spool, 0, keyed_chunk(f.budget, n), f.now);
    f.now.unix_us += 1'000;
  }
  const std::string log = segment_files(f.disk)[0];
  contents.push_back(f.disk.content(log));
  if (kept == 0) contents[0].assign(contents[1].begin(), contents[1].begin() + 128 + 64);
  f.spool.reset();
  f.disk.set_content(log, contents[kept]);
  f.disk.fault = [&](Call call, const std::string& name) {
    return call == Call::open && name.ends_with(".tmp") ? kEnospc : std::error_code{};
  };
  CHECK(f.kill_and_find_keys() == upto(kept));
  const auto named = parse_segment_name(log, ".log");
  const auto reader = KeysReader::open(f.disk, segment_name(named->ordinal, named->id, ".keys"));
  bool cut = false;
  CHECK((reader ? reader->groups(cut).size() : 0) == kept);
  CHECK_FALSE(cut);
}

TEST_CASE("disk spool: a segment stays until its side file has all its keys") {
  DiskSpoolOptions options = small();
  options.retain_time = std::chrono::seconds(0);
  options.dedupe_window = std::chrono::minutes(10);
  Fixture f(options);
  bool has_room = false;
  f.disk.fault = [&](Call call, const std::string& name) {
    return call == Call::open && f.is_side_file(name) && !has_room ? kEnospc : std::error_code{};
  };
  for (std::uint64_t n = 0; n < 30; ++n) {
    append_block(*f.spool, 0, keyed_chunk(f.budget, n), f.now);
  }
  const std::size_t before = segment_files(f.disk).size();
  REQUIRE(before > 2);
  SECTION("it is written when there is room") {
    const bool restarted = GENERATE(false, true);
    if (restarted) CHECK(f.kill_and_find_keys() == upto(30));
    (void)f.deliver();
    append_block(*f.spool, 0, keyed_chunk(f.budget, 30), f.now);
    f.pass(1'500);
    CHECK(segment_files(f.disk).size() >= before);
    has_room = true;
    for (std::size_t i = 0; i < 2 * before; ++i) f.pass(6'000);  // one at a time
    CHECK(segment_files(f.disk).size() <= 2);
    std::uint64_t bytes = 0;
    for (const std::string& name : f.disk.names()) {
      if (name.starts_with("seg-")) bytes += f.disk.content(name).size();
    }
    CHECK(f.spool->bytes() == bytes);
    CHECK(f.kill_and_find_keys() == upto(31));
  }
  SECTION("nobody needs it when the window has passed") {
    (void)f.deliver();
    f.pass(1'500);
    f.pass(500'000);
    CHECK(segment_files(f.disk).size() == before);
    f.pass(100'000);
    f.pass(1'500);
    CHECK(segment_files(f.disk).size() == 1);
  }
}

TEST_CASE("disk spool: a bad block that is committed is reported, and its keys are kept") {
  // Of blocks 0, 1 and 2 one is bad; an empty block behind them.
  for (std::uint64_t bad = 0; bad < 3; ++bad) {
    CAPTURE(bad);
    Fixture f;
    std::vector<std::size_t> begins;
    for (std::uint64_t n = 0; n < 3; ++n) {
      begins.push_back(n == 0 ? kSegmentHeaderBytes + kBlockHeaderBytes : f.first_file_bytes());
      append_block(*f.spool, 0, keyed_chunk(f.budget, n), f.now);
      f.pass(1);
    }
    f.pass(1'500);
    (void)f.deliver();
    f.flip_first_file(begins[bad] + 70);
    CHECK(f.kill_and_find_keys() == upto(3));
    REQUIRE(f.reporter.start_damages.size() == 1);
    const StartDamage& damage = f.reporter.start_damages.front();
    CHECK(damage.runs == 1);
    CHECK(damage.events == 1);
    CHECK(damage.first_index == bad);
    CHECK(damage.keys_kept == 1);
    CHECK_FALSE(f.disk
                    .content("quarantine/" + segment_files(f.disk).front() + "-" +
                             std::to_string(begins[bad]))
                    .empty());
    CHECK(f.deliver().empty());
    CHECK(f.reporter.damages == 0);
    // And at every start after that, whoever says now where the segment ends.
    f.append(3, 1);
    CHECK(f.kill_and_find_keys() == upto(3));
  }
}

TEST_CASE("disk spool: of bad blocks, only keys that the side file surely has of them are kept") {
  const auto prepare = [](Fixture& f) {
    append_block(*f.spool, 0, keyed_chunk(f.budget, 0), f.now);
    f.pass(1'500);
    f.flip_first_file(kSegmentHeaderBytes + kBlockHeaderBytes + 70);
  };
  const auto side_file = [](const Fixture& f) {
    return segment_files(f.disk).front().substr(0, segment_files(f.disk).front().size() - 4) +
           ".keys";
  };
  SECTION("one of another segment is not this one's") {
    Fixture f;
    prepare(f);
    DiskSpoolOptions options = small();
    options.seed = 99;
    Fixture other(options);
    prepare(other);
    f.disk.set_content(side_file(f), other.disk.content(side_file(other)));
    CHECK(f.kill_and_find_keys().empty());
    CHECK(f.reporter.start_damages.at(0).keys_kept == 0);
  }
  SECTION("a damaged one has none") {
    Fixture f;
    prepare(f);
    auto bytes = f.disk.content(side_file(f));
    bytes.back() ^= std::byte{1};
    f.disk.set_content(side_file(f), bytes);
    CHECK(f.kill_and_find_keys().empty());
    CHECK(f.reporter.start_damages.at(0).keys_kept == 0);
  }
  SECTION("a block that is not there any more has no keys") {
    Fixture f;
    prepare(f);
    const std::string log = segment_files(f.disk).front();
    const std::vector<std::byte> before = f.disk.content(log);
    append_block(*f.spool, 0, keyed_chunk(f.budget, 1), f.now);
    f.disk.set_content(log, before);
    CHECK(f.kill_and_find_keys() == Numbers{0});
  }
}

TEST_CASE("disk spool: no key stays of a group that another start did not find in a segment") {
  // The sync fails, and so does every write after so many more of them: the segment that supersedes
  // is there or not, and says from where on.
  for (int writes = 0; writes < 8; ++writes) {
    Fixture f;
    const auto try_append_key = [&](std::uint64_t n) {
      std::vector<Chunk> chunks;
      chunks.push_back(keyed_chunk(f.budget, n));
      return f.spool->append(0, chunks, {}, f.now).has_value();
    };
    REQUIRE(try_append_key(0));
    int writes_left = writes;
    bool broken = false;
    f.disk.fault = [&](Call call, const std::string&) {
      if (call == Call::sync && !std::exchange(broken, true)) return kEio;
      return broken && call == Call::write && writes_left-- <= 0 ? kEio : std::error_code{};
    };
    (void)try_append_key(1);
    // A start that cannot read the newest segment, and one that can.
    const std::string newest = segment_files(f.disk).back();
    f.disk.fault = [&](Call call, const std::string& name) {
      return call == Call::read && name == newest ? kEio : std::error_code{};
    };
    f.kill_and_restart();
    f.disk.fault = {};
    f.kill_and_restart();
    Numbers keys;
    f.spool->recovered_keys(0, 1'000,
                            [&](const RememberedKey& key) { keys.push_back(key.hash[0]); });
    std::sort(keys.begin(), keys.end());
    CHECK(keys == f.deliver());
    CHECK_FALSE(keys.empty());
  }
}
