// Segments of earlier runs in a directory that the daemon does not deliver, as it has no spool on
// disk: found by reading, with nothing changed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "spool/uuid.hpp"

namespace sluice::daemon {

struct LeftSegment {
  spool::Uuid id;
  std::uint64_t end_index = 0;  // its events are committed when the watermark is here
};

// Those that have events and were not cut down to their headers; which of them are committed only
// the database knows. None too where there is no such directory, or a daemon works on it. Throws
// std::system_error if it cannot be read.
[[nodiscard]] std::vector<LeftSegment> left_segments(const std::string& directory);

}  // namespace sluice::daemon
