// Puts bytes on the daemon's socket as fast as it reads them, asking for no acks: the producer that
// forgets what it wrote, and the load of the benches.
#pragma once

#include <string>

namespace sluice::daemon {

// Copies the descriptor's bytes to the socket at that path. Returns the exit code: 0 if every byte
// was written, kExitUnavailable if nobody takes them. Throws std::system_error if the input cannot
// be read.
[[nodiscard]] int copy_unacked(int input, const std::string& socket_path, bool progress);

}  // namespace sluice::daemon
