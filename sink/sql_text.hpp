// Names and values as pieces of SQL.
#pragma once

#include <initializer_list>
#include <span>
#include <string>
#include <string_view>

namespace sluice::sink {

// A table as a route names it: "table" or "schema.table". It is split at the first dot outside
// double quotes; a part that is in double quotes as a whole is read as SQL reads it, every other
// part is taken as it is, whatever is in it.
struct TableName {
  std::string schema;  // empty: by search_path
  std::string table;

  [[nodiscard]] static TableName parse(std::string_view text);
  // As SQL, in quotes.
  [[nodiscard]] std::string quoted() const;
};

[[nodiscard]] std::string quoted_identifier(std::string_view name);
// With commas between.
[[nodiscard]] std::string quoted_identifiers(std::span<const std::string> names);
// Right with standard_conforming_strings on and off.
[[nodiscard]] std::string quoted_literal(std::string_view text);

[[nodiscard]] std::string concat(std::initializer_list<std::string_view> parts);

}  // namespace sluice::sink
