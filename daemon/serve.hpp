// The command `serve`: the daemon from its start to its end.
#pragma once

#include "config/settings.hpp"

namespace sluice::daemon {

// Runs until SIGTERM or SIGINT. Returns the process's exit code (see exit_code.hpp).
[[nodiscard]] int run_serve(const config::Settings& settings);

}  // namespace sluice::daemon
