// What a person can do about a failure of the database, in one clause.
#pragma once

#include <string_view>

#include "sink/database.hpp"

namespace sluice::daemon {

// Static text, never empty.
[[nodiscard]] std::string_view remedy_for(const sink::Failure& failure);

}  // namespace sluice::daemon
