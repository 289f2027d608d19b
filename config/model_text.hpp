// The files of config/models/, SQL and routes, as they were when the binary was built.
#pragma once

#include <string_view>

namespace sluice::config {

// `name` such as "agent_log.sql". Empty if there is no such file.
[[nodiscard]] std::string_view model_text(std::string_view name);

}  // namespace sluice::config
