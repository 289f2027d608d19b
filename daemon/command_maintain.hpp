// The command `schema maintain`: what the tables need from time to time.
#pragma once

#include <chrono>
#include <optional>

#include "config/settings.hpp"

namespace sluice::daemon {

// Made to be run once a day, by the tables' owner, on each machine with a daemon: it makes the next
// partitions, detaches those whose last moment is longer ago than `detach_after` (else than
// sluice.partitioned says), and removes the rows of sluice's own tables that nobody needs any more.
// Beside daemons that write and beside itself it does no harm.
//
// Says to stdout what it did. Returns the exit code: kExitConfig also if a partition could not be
// made.
[[nodiscard]] int maintain_schema(const config::Settings& settings,
                                  std::optional<std::chrono::milliseconds> detach_after);

}  // namespace sluice::daemon
