// One setting's value on its way from the file, the environment or the table into Settings.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "config/settings_table.hpp"

namespace sluice::config {

// A value as the file can hold it, before it is known whether it suits the setting. Anything that
// no setting takes (a float, a date, a table, a mixed list) is its TOML type's name in `Misfit`.
struct Misfit {
  std::string type;
};
using GivenValue = std::variant<Misfit, std::int64_t, std::string, std::vector<std::string>,
                                std::vector<std::int64_t>>;

// Stores the value if it suits the setting. Returns what is wrong with it for people, or "".
[[nodiscard]] std::string assign(const Setting& setting, const GivenValue& value,
                                 Settings& settings);

// The same for the text of an environment variable or a default, where lists are separated by
// commas.
[[nodiscard]] std::string assign_text(const Setting& setting, std::string_view text,
                                      Settings& settings);

}  // namespace sluice::config
