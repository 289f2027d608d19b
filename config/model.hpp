// The SQL that makes a model's tables and sluice's own, with names and choices filled in.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sluice::config {

enum class Partition { none, day, month };

struct ModelOptions {
  std::string schema = "public";      // of the model's tables
  std::string own_schema = "sluice";  // of sluice's own tables
  Partition partition = Partition::none;
  std::optional<std::string> role;  // is granted what the daemon needs
};

// One script, a transaction, that may be run by psql and may be run again.
// Throws std::invalid_argument for a name that cannot be one in Postgres.
[[nodiscard]] std::string model_sql(const ModelOptions& options);

// As SQL wants names and texts: "name", 'text'.
[[nodiscard]] std::string quoted_identifier(std::string_view name);
[[nodiscard]] std::string quoted_literal(std::string_view text);

}  // namespace sluice::config
