// The command `send`: puts lines from stdin or a file on the daemon's socket, as they are.
#pragma once

#include <string>

namespace sluice::daemon {

struct SendOptions {
  std::string socket;  // path
  std::string file;    // empty or "-": stdin
};

// Returns the exit code: 0 if every line was written, kExitUnavailable if nobody takes them.
[[nodiscard]] int run_send(const SendOptions& options);

}  // namespace sluice::daemon
