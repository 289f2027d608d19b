// A segment file of three blocks with every byte of it flipped: nothing is altered silently, what
// is lost is counted exactly, and everything else is delivered.
#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "spool/disk_spool.hpp"
#include "spool/segment_format.hpp"
#include "tests/support/fake_disk.hpp"
#include "tests/unit/event_fixture.hpp"

using namespace sluice::spool;
using sluice::tests::append_block;
using sluice::tests::chunk_of;
using sluice::tests::FakeDisk;

namespace {

constexpr std::array<std::uint64_t, 3> kEventsOfBlock = {3, 4, 5};
constexpr std::uint64_t kEvents = 12;

// What a start on the damaged file comes to.
struct Outcome final : SpoolReporter {
  void torn_tail(const Uuid&, std::uint64_t) override { ++torn_tails; }
  void quarantined(const Uuid&, std::uint64_t, std::optional<std::uint64_t> events,
                   std::uint64_t) override {
    ++quarantined_count;
    lost += events.value_or(0);
  }
  void damaged_at_start(const StartDamage& damage) override {
    ++start_damages;
    forgotten += damage.events;
  }
  void read_failed(const Uuid&, std::uint64_t, std::error_code) override {}
  void file_set_aside(const std::string&, std::string_view) override { ++set_aside; }
  void segments_missing(std::uint64_t) override {}
  void segment_poisoned(const Uuid&, std::string_view, std::error_code) override { ++poisoned; }
  void full(std::string_view) override {}
  void room_again() override {}
  void synced(std::chrono::microseconds) override {}
  void keys_unwritten(const std::string&, std::string_view) override {}
  void keys_lost(const std::string&, std::string_view) override {}

  std::vector<std::uint64_t> delivered;  // numbers of events
  int torn_tails = 0;
  int quarantined_count = 0;
  std::uint64_t lost = 0;
  int start_damages = 0;
  std::uint64_t forgotten = 0;  // events of which the start says so
  int set_aside = 0;
  int poisoned = 0;
  bool is_newer = false;
};

class Bench {
 public:
  // With `idle`, an empty block tells that the third is durable.
  explicit Bench(bool idle) {
    Outcome nobody;
    ProducerTable producers(10);
    DiskSpool spool(options(), disk_, producers, nobody, {}, now_);
    std::uint64_t number = 0;
    for (const std::uint64_t count : kEventsOfBlock) {
      append_block(spool, 0, chunk_of(budget_, number, count), now_);
      number += count;
      now_.steady_ms += 1;
    }
    if (idle) {
      now_.steady_ms += 2'000;
      spool.tend(now_);
    }
    disk_.crash();
    for (const std::string& name : disk_.names()) {
      if (name.ends_with(".log")) name_ = name;
    }
    content_ = disk_.content(name_);
    find_blocks();
  }

  [[nodiscard]] std::size_t bytes() const { return content_.size(); }
  // Offsets of the blocks: the head, the three with events, the idle one if there is one; and the
  // end.
  [[nodiscard]] const std::vector<std::size_t>& blocks() const { return blocks_; }
  // The block that holds the byte; -1: the segment's header.
  [[nodiscard]] int block_of(std::size_t offset) const {
    return static_cast<int>(std::upper_bound(blocks_.begin(), blocks_.end(), offset) -
                            blocks_.begin()) -
           1;
  }
  [[nodiscard]] bool is_in_a_header(std::size_t offset) const {
    const int block = block_of(offset);
    return block < 0 || offset - blocks_[static_cast<std::size_t>(block)] < kBlockHeaderBytes;
  }

  [[nodiscard]] Outcome start_with(std::size_t offset, std::uint8_t flip) const {
    std::vector<std::byte> damaged = content_;
    damaged[offset] ^= std::byte{flip};
    return start_on(damaged);
  }
  [[nodiscard]] Outcome start_cut(std::size_t bytes) const {
    return start_on(Bytes(content_).first(bytes));
  }

 private:
  [[nodiscard]] Outcome start_on(Bytes content) const {
    FakeDisk disk;
    disk.copy_from(disk_);
    disk.set_content(name_, content);
    Outcome outcome;
    ProducerTable producers(10);
    try {
      DiskSpool spool(options(), disk, producers, outcome, {}, now_);
      deliver(spool.reader(0), outcome);
    } catch (const NewerFormat&) {
      outcome.is_newer = true;
    }
    return outcome;
  }

  static DiskSpoolOptions options() {
    DiskSpoolOptions options;
    options.lanes = 1;
    options.reserve_bytes = 0;
    options.seed = 7;
    return options;
  }

  void find_blocks() {
    std::size_t at = kSegmentHeaderBytes;
    const auto header = decode_segment_header(content_);
    const Uuid id = std::get<SegmentHeader>(header).id;
    while (at < content_.size()) {
      const auto block = decode_block_header(Bytes(content_).subspan(at), id);
      REQUIRE(block);
      blocks_.push_back(at);
      at += block->block_bytes();
    }
    blocks_.push_back(at);
  }

  // Everything in the lane; each event must be what was written under its index.
  static void deliver(SpoolReader& reader, Outcome& outcome) {
    while (const auto segment = reader.first_segment()) {
      Position at{segment->id, 0};
      for (;;) {
        const ReadResult found = reader.read(at);
        const auto* block = std::get_if<BlockPtr>(&found);
        if (block == nullptr) break;
        at.index = std::max(at.index, (*block)->first_index);
        for (BlockCursor cursor(*block, at.index); !cursor.at_end(); cursor.advance()) {
          const EventView event = cursor.event();
          const std::uint64_t number = sluice::tests::number_of(event.header().id);
          if (event.line() != "{\"n\":" + std::to_string(number) + "}" ||
              number != cursor.index()) {
            FAIL("event " << cursor.index() << " was altered: " << event.line());
          }
          outcome.delivered.push_back(number);
        }
        at.index = (*block)->end_index();
      }
      reader.release(at);
      reader.confirm(segment->id);
    }
  }

  ByteBudget budget_{1 << 20};
  SpoolTime now_{1'700'000'000'000'000, 1'000};
  FakeDisk disk_;
  std::string name_;
  std::vector<std::byte> content_;
  std::vector<std::size_t> blocks_;
};

// All events but those of one block, 1 to 3; 0: all of them.
std::vector<std::uint64_t> all_but(std::size_t block) {
  std::vector<std::uint64_t> numbers;
  std::uint64_t number = 0;
  for (std::size_t i = 0; i < kEventsOfBlock.size(); ++i) {
    for (std::uint64_t n = 0; n < kEventsOfBlock[i]; ++n, ++number) {
      if (i + 1 != block) numbers.push_back(number);
    }
  }
  return numbers;
}

// `durable_blocks`: so many of the three lie below a synced_upto.
void check(const Bench& bench, std::size_t offset, const Outcome& outcome,
           std::size_t durable_blocks) {
  const int where = bench.block_of(offset);
  REQUIRE_FALSE(outcome.is_newer);
  REQUIRE(outcome.set_aside == 0);
  REQUIRE(outcome.poisoned == 0);
  if (where < 0) {  // the file's name tells what the segment's header said
    REQUIRE(outcome.delivered == all_but(0));
    REQUIRE(outcome.quarantined_count == 1);
    REQUIRE(outcome.lost == 0);
    REQUIRE(outcome.torn_tails == 0);
    return;
  }
  const auto block = static_cast<std::size_t>(where);
  if (block > kEventsOfBlock.size()) {  // the idle block
    REQUIRE(outcome.delivered == all_but(0));
    REQUIRE(outcome.torn_tails == 1);
    REQUIRE(outcome.quarantined_count == 0);
    return;
  }
  REQUIRE(outcome.delivered == all_but(block));
  if (block > durable_blocks) {
    REQUIRE(outcome.torn_tails == 1);
    REQUIRE(outcome.quarantined_count == 0);
    return;
  }
  REQUIRE(outcome.torn_tails == 0);
  REQUIRE(outcome.quarantined_count == 1);
  REQUIRE(outcome.lost == (block == 0 ? 0 : kEventsOfBlock[block - 1]));
  REQUIRE(outcome.start_damages == 1);
  REQUIRE(outcome.forgotten == outcome.lost);
}

void flip_every_byte(Bench& bench, std::size_t durable_blocks, bool every_value) {
  for (std::size_t offset = 0; offset < bench.bytes(); ++offset) {
    CAPTURE(offset, bench.block_of(offset));
    const bool all = every_value && bench.is_in_a_header(offset);
    for (unsigned flip = 1; flip < 256; ++flip) {
      const bool is_one_bit = (flip & (flip - 1)) == 0;
      if (!all && !is_one_bit && flip != 255) continue;
      CAPTURE(flip);
      check(bench, offset, bench.start_with(offset, static_cast<std::uint8_t>(flip)),
            durable_blocks);
    }
  }
}

}  // namespace

TEST_CASE("byte flips: an undamaged file is delivered whole and without a word") {
  for (const bool idle : {false, true}) {
    Bench bench(idle);
    REQUIRE(bench.blocks().size() == (idle ? 6 : 5));
    const Outcome outcome = bench.start_with(0, 0);
    CHECK(outcome.delivered == all_but(0));
    CHECK(outcome.delivered.size() == kEvents);
    CHECK(outcome.torn_tails + outcome.quarantined_count + outcome.start_damages +
              outcome.set_aside ==
          0);
  }
}

TEST_CASE("byte flips: below synced_upto the gap is counted, beyond it the tail is torn") {
  Bench bench(false);
  flip_every_byte(bench, 2, true);
}

TEST_CASE("byte flips: an idle second puts the last block below a synced_upto") {
  Bench bench(true);
  flip_every_byte(bench, 3, false);
}

TEST_CASE("byte flips: a file cut anywhere loses what is cut off and nothing before it") {
  Bench bench(true);
  for (std::size_t bytes = 0; bytes < bench.bytes(); ++bytes) {
    CAPTURE(bytes);
    const Outcome outcome = bench.start_cut(bytes);
    const int block = bench.block_of(bytes);
    std::uint64_t whole = 0;
    for (int i = 1; i < block && i <= 3; ++i)
      whole += kEventsOfBlock[static_cast<std::size_t>(i - 1)];
    REQUIRE(outcome.delivered.size() == whole);
    for (std::uint64_t i = 0; i < whole; ++i) REQUIRE(outcome.delivered[i] == i);
  }
}
