// A spool whose files were damaged: it starts or says why not, and what it delivers was written, as
// it was written and in its place, once.
//
// Input: pairs of what to do and to which file, with a place and a value each. With `c` first the
// checksums of the blocks are made right again behind the damage: then anything may be delivered,
// and it must only be whole.
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "spool/disk_spool.hpp"
#include "spool/segment_format.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/support/fake_disk.hpp"
#include "tests/support/silent_spool_reporter.hpp"
#include "tests/unit/event_fixture.hpp"

namespace sluice::fuzz {
namespace {

using namespace spool;
using tests::FakeDisk;

constexpr std::uint64_t kBlocks = 9;
constexpr std::uint64_t kEventsOfBlock = 3;

// Segments of a kilobyte: sealed ones, and one that is open.
DiskSpoolOptions options() {
  DiskSpoolOptions options;
  options.lanes = 1;
  options.segment_bytes = 1024;
  options.reserve_bytes = 0;
  options.seed = 7;
  return options;
}

// Delivers everything of the lane to `visit(position, event)`, and lets go of it.
template <typename Visit>
void deliver(SpoolReader& reader, Visit&& visit) {
  while (const auto segment = reader.first_segment()) {
    Position at{segment->id, 0};
    for (;;) {
      const ReadResult found = reader.read(at);
      const auto* block = std::get_if<BlockPtr>(&found);
      if (block == nullptr) break;
      must((*block)->segment == segment->id, "a block is of the segment that was asked for");
      must((*block)->end_index() > at.index, "a block lies behind what was read before");
      at.index = std::max(at.index, (*block)->first_index);
      for (BlockCursor cursor(*block, at.index); !cursor.at_end(); cursor.advance()) {
        visit(Position{segment->id, cursor.index()}, cursor.event());
      }
      at.index = (*block)->end_index();
    }
    reader.release(at);
    reader.confirm(segment->id);
  }
}

// What was written: the files, and which event stands where.
struct Written {
  FakeDisk disk;
  std::map<Position, std::uint64_t> numbers;
  std::vector<std::string> names;
  SpoolTime now{1'700'000'000'000'000, 1'000};

  Written() {
    tests::SilentSpoolReporter reporter;
    ProducerTable producers(10);
    ByteBudget budget(1 << 20);
    DiskSpool spool(options(), disk, producers, reporter, {}, now);
    for (std::uint64_t block = 0; block < kBlocks; ++block) {
      const Position end = tests::append_block(
          spool, 0, tests::chunk_of(budget, block * kEventsOfBlock, kEventsOfBlock), now);
      for (std::uint64_t i = 0; i < kEventsOfBlock; ++i) {
        numbers[{end.segment, end.index - kEventsOfBlock + i}] = block * kEventsOfBlock + i;
      }
      now.steady_ms += 10;
    }
    disk.crash();
    names = disk.names();
  }
};

const Written& written() {
  static const Written kWritten;
  return kWritten;
}

std::uint32_t crc_of(const BlockHeader& header, const Uuid& id, Bytes payload) {
  const std::array<Bytes, 1> pieces = {payload};
  return payload_crc(header, id, pieces);
}

// Gives each block whose header can still be read the checksum of what now is its payload.
void mend_checksums(std::vector<std::byte>& content) {
  if (content.size() < kSegmentHeaderBytes) return;
  const auto decoded = decode_segment_header(content);
  const auto* const segment = std::get_if<SegmentHeader>(&decoded);
  if (segment == nullptr) return;
  std::size_t at = kSegmentHeaderBytes;
  while (at + kBlockHeaderBytes <= content.size()) {
    auto header = decode_block_header(Bytes(content).subspan(at), segment->id);
    if (!header || header->payload_bytes > content.size() - at - kBlockHeaderBytes) return;
    const Bytes payload = Bytes(content).subspan(at + kBlockHeaderBytes, header->payload_bytes);
    header->payload_crc = crc_of(*header, segment->id, payload);
    const BlockHeaderBytes bytes = encode(*header, segment->id);
    std::copy(bytes.begin(), bytes.end(), content.begin() + static_cast<std::ptrdiff_t>(at));
    at += header->block_bytes();
  }
}

// Changes a field of the header of one of the blocks, with its checksum.
void change_header(std::vector<std::byte>& content, unsigned which, unsigned field,
                   std::uint64_t value) {
  if (content.size() < kSegmentHeaderBytes) return;
  const auto decoded = decode_segment_header(content);
  const auto* const segment = std::get_if<SegmentHeader>(&decoded);
  std::size_t at = kSegmentHeaderBytes;
  while (segment != nullptr && at + kBlockHeaderBytes <= content.size()) {
    auto header = decode_block_header(Bytes(content).subspan(at), segment->id);
    if (!header) return;
    if (which-- != 0) {
      at += header->block_bytes();
      continue;
    }
    if (field == 0) header->first_index = value;
    if (field == 1) header->count = static_cast<std::uint32_t>(value);
    if (field == 2) header->synced_upto = value;
    if (field == 3) header->marks_count = static_cast<std::uint32_t>(value);
    if (field == 4) header->refs_count = static_cast<std::uint32_t>(value);
    if (field == 5) header->kind = static_cast<BlockKind>(value % 6);
    if (field == 6) header->payload_bytes = static_cast<std::uint32_t>(value);
    const BlockHeaderBytes bytes = encode(*header, segment->id);
    std::copy(bytes.begin(), bytes.end(), content.begin() + static_cast<std::ptrdiff_t>(at));
    return;
  }
}

// One change of a file's bytes, or of its name.
void damage(FakeDisk& disk, Input& input, bool mends) {
  const auto& names = written().names;
  const unsigned what = input.byte();
  const std::string& name = names[input.byte() % names.size()];
  std::vector<std::byte> content = disk.content(name);
  const std::size_t place = input.byte() * 256u + input.byte();
  const unsigned value = input.byte();
  if (content.empty()) return;
  const std::size_t at = place % content.size();
  const auto there = content.begin() + static_cast<std::ptrdiff_t>(at);
  switch (what % 8) {
    case 0:
      content[at] ^= static_cast<std::byte>(value == 0 ? 1 : value);
      break;
    case 1:
      content[at] = static_cast<std::byte>(value);
      break;
    case 2:
      content.resize(at);
      break;
    case 3:
      content.insert(content.end(), value, std::byte{0});
      break;
    case 4:  // a run of it once more, over what follows
      std::copy(there,
                content.begin() + static_cast<std::ptrdiff_t>(std::min(at + value, content.size())),
                content.end() -
                    static_cast<std::ptrdiff_t>(std::min<std::size_t>(value, content.size() - at)));
      break;
    case 5:
      content.insert(content.end(), there, content.end());
      break;
    case 6:  // one file under another's name
      disk.set_content(names[value % names.size()], content);
      return;
    default:
      if (mends)
        change_header(content, value % 8, static_cast<unsigned>(place % 7), place * (value / 8u));
  }
  if (mends) mend_checksums(content);
  disk.set_content(name, content);
}

// What was delivered, over all starts on the same files.
class Delivered {
 public:
  explicit Delivered(bool mends) : mends_(mends) {}

  void begin_start() { seen_.clear(); }
  void take(const Position& position, const EventView& event) {
    for (const FieldSpan& span : event.fields()) {
      const std::string_view text = event.text(span);
      for (const char c : text) sum_ += static_cast<unsigned char>(c);
    }
    must(seen_.insert(position).second, "an event is delivered once");
    if (mends_) return;
    const auto found = written().numbers.find(position);
    must(found != written().numbers.end(), "what is delivered was written");
    must(event.line() == "{\"n\":" + std::to_string(found->second) + "}",
         "what is delivered is as it was written");
  }

 private:
  const bool mends_;
  std::set<Position> seen_;
  unsigned sum_ = 0;
};

void start(FakeDisk& disk, Delivered& delivered) {
  tests::SilentSpoolReporter reporter;
  ProducerTable producers(10);
  delivered.begin_start();
  SpoolTime now = written().now;
  DiskSpool spool(options(), disk, producers, reporter, {}, now);
  spool.recovered_keys(0, 1000, [](const RememberedKey&) {});
  deliver(spool.reader(0), [&](const Position& position, const EventView& event) {
    delivered.take(position, event);
  });
  now.steady_ms += 2'000;
  spool.tend(now);
  spool.close(now);
}

}  // namespace
}  // namespace sluice::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace sluice;
  fuzz::Input input(data, size);
  const bool mends = input.byte() == 'c';
  tests::FakeDisk disk;
  disk.copy_from(fuzz::written().disk);
  for (int changes = 0; changes < 20 && !input.rest().empty(); ++changes) {
    fuzz::damage(disk, input, mends);
  }
  fuzz::Delivered delivered(mends);
  try {
    fuzz::start(disk, delivered);
    disk.crash();
    disk.restart();
    fuzz::start(disk, delivered);
  } catch (const spool::NewerFormat&) {
    // One clear line and an exit code.
  } catch (const spool::SpoolUnusable&) {
  }
  return 0;
}
