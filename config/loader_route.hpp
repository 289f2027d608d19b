// Makes a route of one [[route]] table of the configuration file.
#pragma once

#include <toml++/toml.h>

#include <functional>
#include <string>
#include <vector>

#include "config/settings.hpp"

namespace sluice::config {

// Told what is wrong, and where it stands.
using RouteNote = std::function<void(const toml::source_region& where, const std::string& what)>;

// `file` is its name in places. What is wrong with the route is told to `note`; then what is
// returned is of no use.
[[nodiscard]] Settings::Route read_route(const toml::table& table, const std::string& file,
                                         const RouteNote& note);

// What is wrong with the routes as a whole, for people: one sentence each, the route's place first.
[[nodiscard]] std::vector<std::string> problems_between(const std::vector<Settings::Route>& routes);

}  // namespace sluice::config
