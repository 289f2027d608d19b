// What the kernel says about this process: CPU, memory, descriptors.
#pragma once

#include <cstdint>

namespace sluice::daemon {

struct ProcessStats {
  double start_time_seconds = 0;  // since the Unix epoch
  double cpu_seconds = 0;         // user and system
  std::uint64_t resident_bytes = 0;
  std::uint64_t virtual_bytes = 0;
  std::uint64_t open_fds = 0;
  std::uint64_t max_fds = 0;
};

// A number that /proc does not give is 0. Thread: any.
[[nodiscard]] ProcessStats read_process_stats();

}  // namespace sluice::daemon
