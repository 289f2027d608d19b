// Takes chosen records out of the spool's files for good, beside a running daemon or without one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "daemon/dead_records.hpp"

namespace sluice::daemon {

// Both return how many are left when it is done: those that a daemon which runs does not let go of.
// They throw std::system_error where the disk refuses, LockedError if another command does the same
// or a daemon is just starting.

// Records of events. A daemon that runs does it itself, when it is asked: spool/purge_request.hpp.
// `bytes_max`: of the files, as the daemon has it.
[[nodiscard]] std::size_t purge_events(const std::string& directory, std::uint64_t bytes_max,
                                       const std::vector<DeadRecord>& records);

// Lines that were refused. A daemon that runs is asked to let go of its file:
// spool/reject_purge.hpp.
[[nodiscard]] std::size_t purge_refused_lines(const std::string& directory,
                                              const std::vector<DeadRecord>& records);

}  // namespace sluice::daemon
