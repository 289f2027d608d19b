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

}  // namespace sluice::daemon
