// Fills the model's SQL in and hands it to stdout or to Postgres.
#include "daemon/command_schema.hpp"

#include <fmt/core.h>

#include "daemon/blocking_postgres.hpp"
#include "daemon/exit_code.hpp"

namespace sluice::daemon {

namespace {

// Making an index on a table that is full already takes its time.
constexpr std::chrono::minutes kApplyTimeout{10};

void say_next_steps(const config::ModelOptions& options) {
  if (!options.role)
    fmt::print("The daemon's role needs rights, unless it owns the tables: add --role NAME.\n");
  if (options.schema != "public")
    fmt::print(
        "The daemon looks for its tables on its search_path: ALTER ROLE name SET search_path = "
        "{};\n",
        config::quoted_identifier(options.schema));
}

}  // namespace

int print_schema(const config::ModelOptions& options) {
  fmt::print("{}", config::model_sql(options));
  return kExitOk;
}

std::size_t apply_model(const std::string& dsn, const config::ModelOptions& options) {
  BlockingPostgres postgres(dsn);
  postgres.run(config::model_sql(options), kApplyTimeout);
  return postgres.warnings();
}

int apply_schema(const config::Settings& settings, const config::ModelOptions& options) {
  try {
    const std::size_t missing = apply_model(settings.postgres.dsn, options);
    fmt::print("The tables of {0} are in the schema {1}, and {2}.watermark is there.\n",
               options.model, config::quoted_identifier(options.schema),
               config::quoted_identifier(options.own_schema));
    if (missing > 0)
      fmt::print("{} partitions were not made: the DEFAULT partition holds events of their time.\n",
                 missing);
    say_next_steps(options);
    return kExitOk;
  } catch (const PostgresError& error) {
    fmt::print(stderr, "sluice: the schema was not applied: {}\n", error.what());
    return error.sqlstate().empty() || error.sqlstate().starts_with("57") ? kExitUnavailable
                                                                          : kExitConfig;
  }
}

}  // namespace sluice::daemon
