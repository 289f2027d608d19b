// What the routes of the settings ask of events before they are accepted.
#pragma once

#include <vector>

#include "config/settings.hpp"
#include "ingest/route_rule.hpp"

namespace sluice::daemon {

// In the routes' order; without routes in the settings, those of the model.
[[nodiscard]] std::vector<ingest::RouteRule> route_rules(const config::Settings& settings);

}  // namespace sluice::daemon
