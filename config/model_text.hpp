// The SQL files of config/models/, as they were when the binary was built.
#pragma once

#include <string_view>

namespace sluice::config {

// `name` without ".sql". Empty if there is no such file.
[[nodiscard]] std::string_view model_text(std::string_view name);

}  // namespace sluice::config
