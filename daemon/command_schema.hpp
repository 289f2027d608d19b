// The command `schema`: prints or applies the SQL that makes the tables.
#pragma once

#include <string>

#include "config/model.hpp"
#include "config/settings.hpp"

namespace sluice::daemon {

// Both return the exit code.
[[nodiscard]] int print_schema(const config::ModelOptions& options);
// In one transaction: all of it or nothing.
[[nodiscard]] int apply_schema(const config::Settings& settings,
                               const config::ModelOptions& options);

// The same for callers that speak for themselves. Throws PostgresError. Returns how many partitions
// could not be made because rows in the DEFAULT partition are in their way.
[[nodiscard]] std::size_t apply_model(const std::string& dsn, const config::ModelOptions& options);

}  // namespace sluice::daemon
