// The SQL that makes a model's tables and sluice's own, with names and choices filled in.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::config {

enum class Partition { none, day, month };
enum class Indexes { basic, full };  // full: slower to fill, quicker to ask

struct ModelOptions {
  std::string model = "agent_log";
  std::string schema = "public";       // of the model's tables
  std::string own_schema = "sluice";   // of sluice's own tables
  std::optional<Partition> partition;  // else the model's own choice
  Indexes indexes = Indexes::basic;
  std::optional<std::string> role;  // is granted what the daemon needs
};

// One script, a transaction, that may be run by psql and may be run again.
// Throws std::invalid_argument for a name that cannot be one in Postgres, a model that there is
// not, and partitions of a model that has none.
[[nodiscard]] std::string model_sql(const ModelOptions& options);

[[nodiscard]] std::vector<std::string> model_names();

// As SQL wants names and texts: "name", 'text'.
[[nodiscard]] std::string quoted_identifier(std::string_view name);
[[nodiscard]] std::string quoted_literal(std::string_view text);

}  // namespace sluice::config
