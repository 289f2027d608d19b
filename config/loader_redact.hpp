// Makes a rule of one [[redact]] table of the configuration file.
#pragma once

#include <toml++/toml.h>

#include <string>
#include <vector>

#include "config/loader_route.hpp"
#include "config/settings.hpp"

namespace sluice::config {

// As read_route().
[[nodiscard]] Settings::Redaction read_redaction(const toml::table& table, const std::string& file,
                                                 const RouteNote& note);

// Gives those without a name their number, and says what is wrong with them as a whole: one
// sentence each, the rule's place first.
[[nodiscard]] std::vector<std::string> name_redactions(
    std::vector<Settings::Redaction>& redactions);

}  // namespace sluice::config
