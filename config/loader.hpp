// Makes Settings of the defaults, the configuration file and the environment; the later ones win.
#pragma once

#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "config/settings.hpp"

namespace sluice::config {

// Names and values, as in environ.
using Environment = std::vector<std::pair<std::string, std::string>>;

// Everything that is wrong with a configuration, each problem one line that names where it stands
// (file and line, or the environment variable), the key, and what would be right.
class LoadError final : public std::runtime_error {
 public:
  explicit LoadError(std::vector<std::string> problems);

  [[nodiscard]] const std::vector<std::string>& problems() const { return problems_; }

 private:
  std::vector<std::string> problems_;
};

inline constexpr std::string_view kDefaultFile = "/etc/sluice/sluice.toml";

// The process's own environment.
[[nodiscard]] Environment process_environment();

// The file to read: `asked` (of --config), else SLUICE_CONFIG, else kDefaultFile if it is there.
[[nodiscard]] std::optional<std::string> choose_file(const std::optional<std::string>& asked,
                                                     const Environment& environment);

[[nodiscard]] Settings default_settings();

// Throws LoadError.
[[nodiscard]] Settings load(const std::optional<std::string>& file, const Environment& environment);

// The same for a file's content; `file` is its name in messages.
[[nodiscard]] Settings load_text(std::string_view toml, std::string_view file,
                                 const Environment& environment);

// The routes of a model, as config/models/NAME.toml has them. None: there is no such model.
[[nodiscard]] std::vector<Settings::Route> model_routes(std::string_view model);

}  // namespace sluice::config
