// Finds out at start what the segments in the directory hold: which there are, where each ends, and
// what must be known of them before anything is appended. Changes no segment.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "spool/disk.hpp"
#include "spool/keys_file.hpp"
#include "spool/segment_format.hpp"
#include "spool/segment_scan.hpp"

namespace sluice::spool {

class SpoolReporter;

// The events of one block, copied out of a file that may not keep them.
struct SavedBlock {
  std::vector<ProducerMark> marks;
  std::uint32_t count = 0;
  std::int64_t written_us = 0;
  std::vector<std::byte> records;
};

struct RecoveredSegment {
  SegmentHeader header;
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
  std::vector<SavedBlock> tail;  // the blocks from durable_bytes on
  // It was emptied after its delivery: nothing but its header is left.
  bool emptied = false;
  // Of one that was read: its side file could be written again.
  bool keys_complete = true;
};

struct Recovered {
  std::vector<RecoveredSegment> segments;  // by ordinal
  std::vector<ProducerMark> marks;  // the least recently heard first; the last of a key holds
  std::optional<std::uint64_t> hash_seed;
  std::uint64_t next_ordinal = 1;
};

// Reads the directory. Keys of segments that were open are written to their side files.
// Throws NewerFormat, or SpoolUnusable where the directory cannot be read.
[[nodiscard]] Recovered recover(Disk& disk, SpoolReporter& reporter);

}  // namespace sluice::spool
