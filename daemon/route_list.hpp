// The routes of the settings as the sink takes them.
#pragma once

#include <vector>

#include "config/settings.hpp"
#include "sink/route.hpp"

namespace sluice::daemon {

// Without any in the settings, the one of the model agent_log: every event into `events`.
[[nodiscard]] std::vector<sink::Route> route_list(const config::Settings& settings);

// Whether every event finds a route.
[[nodiscard]] bool takes_every_type(const config::Settings& settings);

}  // namespace sluice::daemon
