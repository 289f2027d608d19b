// Puts a copy of a segment in the place of its file: for one whose end may not be on the medium,
// and which must not be synced again.
#pragma once

#include <cstdint>
#include <string>
#include <system_error>

#include "spool/disk.hpp"

namespace sluice::spool {

struct SegmentContent {
  std::string name;            // of the file
  std::string temporary_name;  // of the copy, as long as it does not count
  std::uint64_t kept_bytes;    // the file's first bytes: known to be on the medium
  Bytes tail;                  // what follows them
};

// Writes and syncs the copy, gives it the file's name and syncs the directory. The segment stays
// what it was, byte for byte, so what of it was delivered stays delivered. After an error the name
// stands for the old file or for the whole copy, and a power cut may bring the old one back: try
// again. Handles of the old file go on reading the old file.
[[nodiscard]] std::error_code replace_by_copy(Disk& disk, const SegmentContent& content);

}  // namespace sluice::spool
