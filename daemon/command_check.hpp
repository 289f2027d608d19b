// The command `check`: looks at the configuration and at what it points to, and says what to do
// next.
#pragma once

#include <string>

#include "config/settings.hpp"

namespace sluice::daemon {

// `source` says where the settings came from. Changes nothing anywhere. Returns the exit code: 0,
// kExitConfig if a person must mend something, kExitUnavailable if Postgres cannot be reached.
[[nodiscard]] int run_check(const config::Settings& settings, const std::string& source);

}  // namespace sluice::daemon
