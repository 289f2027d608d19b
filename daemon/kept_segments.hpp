// Which segments a spool's directory still has anything of: works beside the daemon that writes it,
// and changes nothing.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "spool/uuid.hpp"

namespace sluice::daemon {

// Those with a file, also in quarantine, and those with a set-aside record; in any order, some
// maybe twice. None: the directory, or a file of records, cannot be read.
[[nodiscard]] std::optional<std::vector<spool::Uuid>> kept_segments(const std::string& directory);

}  // namespace sluice::daemon
