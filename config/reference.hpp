// The settings table as pages: the commented config/sluice.toml and docs/settings.md.
#pragma once

#include <string>

namespace sluice::config {

// Every setting with its sentence, range and environment variable; each line with a value is
// commented out and shows the default.
[[nodiscard]] std::string reference_toml();

[[nodiscard]] std::string reference_markdown();

}  // namespace sluice::config
