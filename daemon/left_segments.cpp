#include "daemon/left_segments.hpp"

#include <algorithm>
#include <filesystem>
#include <map>

#include "daemon/file_lock.hpp"
#include "daemon/spool_directory.hpp"
#include "daemon/spool_survey.hpp"

namespace sluice::daemon {
namespace {

std::uint64_t end_of(const SegmentFile& segment) {
  // A seal says what the segment holds; without one it has to be read.
  if (const auto seal = spool::read_seal(*segment.file, segment.header.id, segment.bytes)) {
    return seal->first_index;
  }
  return survey_segment(segment, [](const spool::ScannedBlock&) {}).end_index;
}

}  // namespace

std::vector<LeftSegment> left_segments(const std::string& directory) {
  std::error_code error;
  if (!std::filesystem::is_directory(directory, error)) return {};
  if (is_locked(SpoolDirectory::lock_path(directory))) return {};
  const SpoolFiles files = open_spool_files(directory);
  // From there on another segment has the events.
  std::map<spool::Uuid, std::uint64_t> superseded_from;
  for (const SegmentFile& segment : files.segments) {
    if (!segment.header.does_supersede()) continue;
    superseded_from.emplace(segment.header.supersedes, segment.header.supersedes_from);
  }
  std::vector<LeftSegment> left;
  for (const SegmentFile& segment : files.segments) {
    if (segment.is_released()) continue;
    std::uint64_t end_index = end_of(segment);
    if (const auto found = superseded_from.find(segment.header.id);
        found != superseded_from.end()) {
      end_index = std::min(end_index, found->second);
    }
    if (end_index != 0) left.push_back({segment.header.id, end_index});
  }
  return left;
}

}  // namespace sluice::daemon
