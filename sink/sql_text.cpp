#include "sink/sql_text.hpp"

namespace sluice::sink {
namespace {

// The text of an SQL identifier in double quotes; any other text as it is.
std::string part_of_name(std::string_view text) {
  if (text.size() < 2 || !text.starts_with('"') || !text.ends_with('"')) return std::string(text);
  std::string name;
  for (std::size_t i = 1; i + 1 < text.size(); ++i) {
    if (text[i] == '"') {
      const bool is_doubled = i + 2 < text.size() && text[i + 1] == '"';
      if (!is_doubled) return std::string(text);
      ++i;
    }
    name += text[i];
  }
  return name;
}

}  // namespace

TableName TableName::parse(std::string_view text) {
  bool in_quotes = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') in_quotes = !in_quotes;
    if (text[i] == '.' && !in_quotes) {
      return {part_of_name(text.substr(0, i)), part_of_name(text.substr(i + 1))};
    }
  }
  return {"", part_of_name(text)};
}

std::string TableName::quoted() const {
  return schema.empty() ? quoted_identifier(table)
                        : quoted_identifier(schema) + '.' + quoted_identifier(table);
}

std::string quoted_identifier(std::string_view name) {
  std::string quoted = "\"";
  for (const char c : name) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string quoted_identifiers(std::span<const std::string> names) {
  std::string list;
  for (const std::string& name : names) {
    if (!list.empty()) list += ',';
    list += quoted_identifier(name);
  }
  return list;
}

std::string quoted_literal(std::string_view text) {
  std::string quoted = text.find('\\') == std::string_view::npos ? "'" : " E'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') quoted += c;
    quoted += c;
  }
  return quoted + '\'';
}

std::string concat(std::initializer_list<std::string_view> parts) {
  std::string whole;
  for (const std::string_view part : parts) whole += part;
  return whole;
}

}  // namespace sluice::sink
