// The command `dev`: a private Postgres with the schema applied, and the daemon, with nothing to
// set.
#pragma once

#include <optional>
#include <string>

#include "config/settings.hpp"

namespace sluice::daemon {

struct DevOptions {
  std::string directory = ".sluice-dev";
  std::optional<std::string> config_file;  // for the settings that dev does not choose itself
};

// Runs until SIGINT, SIGTERM or SIGHUP, or until the daemon or Postgres ends. Returns the exit
// code.
[[nodiscard]] int run_dev(const config::Settings& settings, const DevOptions& options);

}  // namespace sluice::daemon
