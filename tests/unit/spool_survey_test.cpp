// What `sluice spool verify` finds in a segment.
#include "daemon/spool_survey.hpp"

#include <algorithm>
#include <catch2/catch.hpp>

#include "spool/disk_spool.hpp"
#include "spool/producer_table.hpp"
#include "tests/support/fake_disk.hpp"
#include "tests/support/silent_spool_reporter.hpp"
#include "tests/unit/event_fixture.hpp"

using sluice::tests::append_block;
using sluice::tests::chunk_of;
using sluice::tests::FakeDisk;

namespace sluice::daemon {

TEST_CASE("spool survey: bytes that cannot be read are told from bytes that are bad") {
  FakeDisk disk;
  spool::ByteBudget budget{1'000'000};
  spool::ProducerTable producers(10);
  tests::SilentSpoolReporter reporter;
  spool::DiskSpool disk_spool({}, disk, producers, reporter, {}, {});
  append_block(disk_spool, 0, chunk_of(budget, 0, 2));
  const auto names = disk.names();
  const auto segment_file = std::find_if(
      names.begin(), names.end(), [](const std::string& name) { return name.ends_with(".log"); });
  REQUIRE(segment_file != names.end());
  const std::uint64_t second = disk.content(*segment_file).size();
  append_block(disk_spool, 0, chunk_of(budget, 2, 3));
  const std::uint64_t third = disk.content(*segment_file).size();
  append_block(disk_spool, 0, chunk_of(budget, 5, 1));

  const bool readable = GENERATE(false, true);
  if (readable) {
    auto bytes = disk.content(*segment_file);
    bytes[second + 100] ^= std::byte{1};
    disk.set_content(*segment_file, bytes);
  } else {
    disk.unreadable = {{*segment_file, second + 100, second + 101}};
  }
  SegmentFile segment;
  segment.name = *segment_file;
  segment.file = std::get<0>(disk.open(*segment_file, spool::OpenMode::read_only));
  segment.bytes = disk.content(*segment_file).size();
  segment.header = std::get<spool::SegmentHeader>(spool::read_segment_header(*segment.file));

  std::uint64_t events = 0;
  const SegmentSurvey survey =
      survey_segment(segment, [&](const auto& block) { events += block.header.count; });
  CHECK(events == 3);
  REQUIRE(survey.bad.size() == 1);
  CHECK(survey.bad[0].offset == second);
  CHECK(survey.bad[0].end_offset == third);
  CHECK(survey.bad[0].events == 3);
  CHECK((survey.bad[0].read_error == std::errc::io_error) == !readable);
}

namespace {

// A disk with the keys of two blocks in a side file, and a head, of a segment that is open; the
// file's name.
std::string keep_two_keys(FakeDisk& disk) {
  spool::ByteBudget budget{1'000'000};
  spool::ProducerTable producers(10);
  tests::SilentSpoolReporter reporter;
  spool::DiskSpoolOptions options;
  options.lanes = 1;
  spool::DiskSpool disk_spool(options, disk, producers, reporter, {}, {});
  for (std::uint64_t n = 0; n < 2; ++n) {
    spool::RecordHeader header{};
    header.flags = spool::kHasDedupeKey;
    header.dedupe_hash[0] = n;
    spool::Chunk chunk(budget, 500);
    chunk.append(header, {}, "{}", "");
    append_block(disk_spool, 0, std::move(chunk));
  }
  for (const std::string& name : disk.names()) {
    if (name.ends_with(".keys")) return name;
  }
  return {};
}

// A group is a header of 16 bytes and a key of 16, behind the file's 40.
void flip(FakeDisk& disk, const std::string& name, std::size_t offset) {
  auto bytes = disk.content(name);
  bytes.at(offset) ^= std::byte{1};
  disk.set_content(name, bytes);
}

std::string segment_of(const std::string& keys_name) {
  return keys_name.substr(0, keys_name.size() - 5) + ".log";
}

}  // namespace

TEST_CASE("spool survey: good side files pass, also one that is being written") {
  FakeDisk disk;
  const std::string name = keep_two_keys(disk);
  REQUIRE(disk.content(name).size() == 40 + 2 * 32);
  CHECK(survey_keys(disk).empty());
  const auto whole = disk.content(name);
  disk.set_content(name, spool::Bytes(whole).first(40 + 32 + 20));
  CHECK(survey_keys(disk).empty());
}

TEST_CASE("spool survey: a flipped byte of a side file is found") {
  const std::size_t offset = GENERATE(0, 20, 40, 53, 60, 71);
  CAPTURE(offset);
  FakeDisk disk;
  const std::string name = keep_two_keys(disk);
  flip(disk, name, offset);
  const auto bad = survey_keys(disk);
  REQUIRE(bad.size() == 1);
  CHECK(bad[0].name == name);
}

TEST_CASE("spool survey: the end of a side file is good where its segment has gone, or it is bad") {
  FakeDisk disk;
  const std::string name = keep_two_keys(disk);
  REQUIRE_FALSE(disk.remove(segment_of(name)));
  CHECK(survey_keys(disk).empty());
  flip(disk, name, 40 + 32 + 20);
  CHECK(survey_keys(disk).size() == 1);
}

}  // namespace sluice::daemon
