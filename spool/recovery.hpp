// Finds out at start what the segments in the directory hold: which there are, where each ends, and
// what must be known of them before anything is appended. Changes no segment.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "spool/disk.hpp"
#include "spool/found_keys.hpp"
#include "spool/segment_format.hpp"
#include "spool/segment_scan.hpp"

namespace sluice::spool {

class SpoolReporter;

struct RecoveredSegment {
  SegmentHeader header;
  bool is_rebuilt = false;  // its header has bad bytes: rebuild_segment_header()
  std::string name;
  std::uint64_t file_bytes = 0;
  std::uint64_t end_bytes = 0;  // whole blocks that count lie below
  std::uint64_t end_index = 0;
  // How its end is known: by its own seal, by another file (a ref or a superseding segment), or by
  // reading it, as it was open when a process ended.
  enum class End { sealed, told, read } end = End::read;
  // Of one that was read: the part that was known to be durable when it was written ends there.
  std::uint64_t durable_bytes = 0;
  std::uint64_t durable_index = 0;
  std::vector<std::byte> tail;  // the file's bytes from durable_bytes to end_bytes
  std::vector<ProducerMark> tail_marks;
  // It was emptied after its delivery: nothing but its header is left.
  bool emptied = false;
  // Of one that was read: its keys, if its side file could not be written with them.
  KeyGroups unwritten_keys;
};

// A segment that the disk could not read. That is no damage: its file stays where it is, for
// another start.
struct UnreadSegment {
  std::string name;
  std::uint64_t ordinal = 0;
  Uuid id;
  std::uint64_t file_bytes = 0;
  std::optional<SegmentRef> told;  // where it ends, by another file
};

struct Recovered {
  std::vector<RecoveredSegment> segments;  // by ordinal
  std::vector<UnreadSegment> unread;
  // False: what could not be read may hold producers' numbers and keys, or tell where a segment
  // that was read ends.
  bool knows_all = true;
  // Of all but the tails; the least recently heard first, the greatest of a key holds.
  std::vector<ProducerMark> marks;
  std::optional<std::uint64_t> hash_seed;
  std::uint64_t next_ordinal = 1;
};

// Reads the directory. Keys of segments that were open are written to their side files.
// Throws NewerFormat, or SpoolUnusable where the directory cannot be read.
[[nodiscard]] Recovered recover(Disk& disk, SpoolReporter& reporter);

}  // namespace sluice::spool
