// The routes of the settings as the sink takes them.
#pragma once

#include <string>
#include <vector>

#include "config/settings.hpp"
#include "sink/route.hpp"

namespace sluice::daemon {

// `instance` is the daemon's name, for columns that hold it. Without any in the settings, those of
// postgres.model.
[[nodiscard]] std::vector<sink::Route> route_list(const config::Settings& settings,
                                                  const std::string& instance);

// Whether every event finds a route.
[[nodiscard]] bool takes_every_type(const config::Settings& settings);

}  // namespace sluice::daemon
