// What the segment files of a spool's directory hold, found by reading them and nothing else: works
// beside the daemon that writes them, and changes nothing.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "spool/disk.hpp"
#include "spool/segment_format.hpp"
#include "spool/segment_scan.hpp"

namespace sluice::daemon {

// A segment file, open for reading: it can be read to its end even if the daemon deletes it.
struct SegmentFile {
  std::string name;
  std::unique_ptr<spool::DiskFile> file;
  std::uint64_t bytes = 0;  // when it was opened; what comes later is not looked at
  spool::SegmentHeader header;
  bool is_rebuilt = false;  // its header has bad bytes: spool::rebuild_segment_header()

  // Cut down to its header: its events were delivered, and its turn to be deleted has not come.
  [[nodiscard]] bool is_released() const { return bytes == spool::kSegmentHeaderBytes; }
};

// A file that has a segment's name and no segment's header.
struct UnreadableFile {
  std::string name;
  std::string reason;
};

struct SpoolFiles {
  std::vector<SegmentFile> segments;  // by their ordinals
  std::vector<UnreadableFile> unreadable;
  std::uint64_t missing = 0;      // ordinals between the first and the last that have no file
  std::uint64_t quarantined = 0;  // files in quarantine/
  bool newer_format = false;      // a segment is of a version that is not known here
};

// Throws std::system_error if the directory cannot be read.
[[nodiscard]] SpoolFiles open_spool_files(const std::string& directory);

struct BadBytes {
  std::uint64_t offset = 0;
  std::uint64_t end_offset = 0;
  std::uint64_t first_index = 0;        // of the first event that is lost with them
  std::optional<std::uint64_t> events;  // lost with them; none: no good block follows
  std::error_code read_error = {};      // if they could not be read: another try may do better
};

// One segment, read whole.
struct SegmentSurvey {
  std::uint64_t blocks = 0;
  std::uint64_t end_index = 0;     // events ever written, those in bad bytes included if known
  std::uint64_t synced_bytes = 0;  // the greatest length that a block of it says was durable
  bool sealed = false;
  std::vector<BadBytes> bad;
  std::vector<spool::SegmentRef> refs;  // what it knows of others
};

// Reads the segment and visits each good block. What the daemon cuts off meanwhile is not damage.
[[nodiscard]] SegmentSurvey survey_segment(
    const SegmentFile& segment, const std::function<void(const spool::ScannedBlock&)>& visit);

// A side file of dedupe keys with bytes that are bad.
struct BadKeysFile {
  std::string name;
  std::string reason;
};

// Checks every side file in the directory. One whose segment is open may end in a write under way,
// or in one that a crash cut short.
[[nodiscard]] std::vector<BadKeysFile> survey_keys(spool::Disk& disk);

}  // namespace sluice::daemon
