// Fills psql's way of naming variables, :"name" and :'name', into the SQL files.
#include "config/model.hpp"

#include <algorithm>
#include <iterator>
#include <stdexcept>
#include <utility>
#include <vector>

#include "config/model_text.hpp"

namespace sluice::config {

namespace {

using Variables = std::vector<std::pair<std::string, std::string>>;

struct Model {
  std::string_view name;         // of config/models/NAME.sql and NAME_grants.sql
  std::string_view time_column;  // of events, that --partition partitions by; empty: never
  Partition partition;           // unless the options say otherwise
};

constexpr Model kModels[] = {
    {"agent_log", "occurred_at", Partition::none}, {"conversations", "", Partition::none},
    {"operations", "", Partition::none},           {"spirits", "", Partition::none},
    {"unified", "\"timestamp\"", Partition::day},
};

const Model& find_model(std::string_view name) {
  const auto* const found = std::find_if(std::begin(kModels), std::end(kModels),
                                         [&](const Model& model) { return model.name == name; });
  if (found == std::end(kModels))
    throw std::invalid_argument("model: there is none called \"" + std::string(name) + '"');
  return *found;
}

Partition partition_of(const Model& model, const ModelOptions& options) {
  const Partition partition = options.partition.value_or(model.partition);
  if (partition != Partition::none && model.time_column.empty())
    throw std::invalid_argument("the model " + std::string(model.name) + " has no partitions");
  return partition;
}

// NAMEDATALEN - 1: Postgres would cut a longer name, and then not find it.
constexpr std::size_t kNameBytesMax = 63;

// Names stand inside $sluice$ bodies too, so a dollar sign could end one.
void check_name(std::string_view what, std::string_view name) {
  const bool odd = std::any_of(name.begin(), name.end(), [](char c) {
    return c == '$' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
  });
  if (name.empty() || name.size() > kNameBytesMax || odd)
    throw std::invalid_argument(std::string(what) + ": \"" + std::string(name) +
                                "\" is not a name of 1 to 63 bytes without $");
}

std::string_view period_name(Partition partition) {
  switch (partition) {
    case Partition::none:
      return "none";
    case Partition::day:
      return "day";
    case Partition::month:
      return "month";
  }
  return {};
}

// In one pass, so that what is filled in is never looked at again.
std::string filled(std::string_view text, const Variables& variables) {
  std::string result;
  while (!text.empty()) {
    const std::size_t colon = text.find(':');
    result += text.substr(0, colon);
    if (colon == std::string_view::npos) break;
    text.remove_prefix(colon);
    const auto found = std::find_if(variables.begin(), variables.end(), [&](const auto& variable) {
      return text.starts_with(variable.first);
    });
    const bool known = found != variables.end();
    result += known ? found->second : std::string(1, ':');
    text.remove_prefix(known ? found->first.size() : 1);
  }
  return result;
}

Variables variables_of(const Model& model, const ModelOptions& options) {
  const Partition partition = partition_of(model, options);
  const bool whole = partition == Partition::none;
  const std::string time_column(model.time_column);
  return {{":\"schema\"", quoted_identifier(options.schema)},
          {":'schema'", quoted_literal(options.schema)},
          {":\"own_schema\"", quoted_identifier(options.own_schema)},
          {":'own_schema'", quoted_literal(options.own_schema)},
          {":\"role\"", quoted_identifier(options.role.value_or(""))},
          {":'role'", quoted_literal(options.role.value_or(""))},
          {":'partition'", quoted_literal(period_name(partition))},
          {":'index'", options.indexes == Indexes::full ? "'full'" : "'basic'"},
          {":primary_key", whole ? "id" : "id, " + time_column},
          {":partition_by", whole ? "" : " PARTITION BY RANGE (" + time_column + ")"}};
}

std::string doubled(std::string_view text, char quote) {
  std::string result(1, quote);
  for (const char c : text) {
    if (c == quote) result += quote;
    result += c;
  }
  return result + quote;
}

}  // namespace

std::string model_sql(const ModelOptions& options) {
  check_name("schema", options.schema);
  check_name("schema of sluice's own tables", options.own_schema);
  if (options.role) check_name("role", *options.role);
  const Model& model = find_model(options.model);
  std::string script =
      "BEGIN;\n"
      "SET LOCAL lock_timeout = '5s';\n"
      "SET LOCAL client_min_messages = warning;\n\n";
  script += model_text("sluice.sql");
  script += "\n";
  if (!model.time_column.empty()) {
    script += model_text("partitions.sql");
    script += "\n";
  }
  script += model_text(options.model + ".sql");
  if (options.role) {
    script += "\n";
    script += model_text("grants.sql");
    script += "\n";
    script += model_text(options.model + "_grants.sql");
  }
  script += "\nCOMMIT;\n";
  // The texts' own comments say what the variables mean; what is printed has none left.
  return filled(script, variables_of(model, options));
}

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const Model& model : kModels) names.emplace_back(model.name);
  return names;
}

std::string quoted_identifier(std::string_view name) {
  return doubled(name, '"');
}

std::string quoted_literal(std::string_view text) {
  // A backslash means itself only where standard_conforming_strings is on; E'' is the same
  // anywhere.
  if (text.find('\\') == std::string_view::npos) return doubled(text, '\'');
  std::string escaped;
  for (const char c : text) {
    if (c == '\\') escaped += '\\';
    escaped += c;
  }
  return " E" + doubled(escaped, '\'');
}

}  // namespace sluice::config
