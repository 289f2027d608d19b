// The command `send`: lines from stdin or a file to the daemon's socket, until each is stored.
#pragma once

#include <chrono>
#include <string>

namespace sluice::daemon {

struct SendOptions {
  std::string socket;    // path
  std::string file;      // empty or "-": stdin
  std::string producer;  // empty: of the file, or random for stdin
  bool again = false;    // lines that this producer sent before are sent once more
  bool acks = true;      // without: see daemon/unacked_copy.hpp
  bool progress = true;
  std::chrono::milliseconds retry_for{30'000};
};

// Returns the exit code: 0 if every line is stored, kExitRefused if one was refused,
// kExitUnavailable if no daemon answered, had room or acked anything for too long. Throws
// std::system_error if the input cannot be read.
[[nodiscard]] int run_send(const SendOptions& options);

}  // namespace sluice::daemon
