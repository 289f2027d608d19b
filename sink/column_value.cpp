#include "sink/column_value.hpp"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <utility>

#include "spool/timestamp.hpp"

namespace sluice::sink {
namespace {

// Names are those of pg_catalog.
constexpr auto kTypes = std::to_array<std::pair<std::string_view, ColumnType>>({
    {"uuid", ColumnType::uuid},
    {"text", ColumnType::text},
    {"varchar", ColumnType::text},
    {"bpchar", ColumnType::text},
    {"timestamptz", ColumnType::timestamptz},
    {"timestamp", ColumnType::timestamp},
    {"date", ColumnType::date},
    {"jsonb", ColumnType::jsonb},
    {"json", ColumnType::json},
    {"int2", ColumnType::int2},
    {"int4", ColumnType::int4},
    {"int8", ColumnType::int8},
    {"float4", ColumnType::float4},
    {"float8", ColumnType::float8},
    {"numeric", ColumnType::numeric},
    {"bool", ColumnType::boolean},
    {"time", ColumnType::other_time},
    {"timetz", ColumnType::other_time},
    {"interval", ColumnType::other_time},
});

ColumnType type_named(std::string_view name) {
  const auto* found = std::find_if(kTypes.begin(), kTypes.end(),
                                   [&](const auto& entry) { return entry.first == name; });
  return found == kTypes.end() ? ColumnType::other : found->second;
}

// Ranges, multiranges and composites may have times inside.
bool may_hold_times(char kind) {
  return kind == 'r' || kind == 'm' || kind == 'c';
}

}  // namespace

std::string_view sqlstate_of(Misfit misfit) {
  switch (misfit) {
    case Misfit::none:
      return "00000";
    case Misfit::out_of_range:
      return "22003";
    case Misfit::wrong_type:
      return "22P02";
    case Misfit::bad_time:
      return "22007";
    case Misfit::missing:
      return "23502";
  }
  std::abort();
}

std::string_view message_of(Misfit misfit) {
  switch (misfit) {
    case Misfit::none:
      return "";
    case Misfit::out_of_range:
      return "a number is out of range for its column's type";
    case Misfit::wrong_type:
      return "a value is not of its column's type";
    case Misfit::bad_time:
      return "a value is no date or time that can be read";
    case Misfit::missing:
      return "a required value is missing";
  }
  std::abort();
}

BoundColumn bound_column(const CatalogColumn& column) {
  if (column.is_array) {
    ColumnType element = type_named(column.element_type);
    // Elements of a type without a name here may be ranges or composites.
    if (column.element_type.empty() || column.element_type.ends_with("range")) {
      element = ColumnType::other_time;
    }
    return {element, true};
  }
  if (column.encoder) return {*column.encoder};
  if (column.base_kind == 'e') return {ColumnType::text};  // enum_recv() takes the label
  if (may_hold_times(column.base_kind)) return {ColumnType::other_time};
  return {type_named(column.base_type)};
}

bool needs_text_format(const BoundColumn& column) {
  return column.is_array || column.type == ColumnType::other ||
         column.type == ColumnType::other_time;
}

std::optional<std::int64_t> moment_of(const JsonValue& value, std::string_view decoded,
                                      ColumnType type) {
  if (value.kind == spool::ValueKind::number) {
    return spool::parse_epoch_us(value.text, spool::kAllTimes);
  }
  if (!value.is_string()) return std::nullopt;
  const auto zone = type == ColumnType::timestamptz ? spool::Zone::required : spool::Zone::optional;
  return spool::parse_rfc3339_us(decoded, spool::kAllTimes, zone);
}

std::optional<std::int32_t> day_of(const JsonValue& value, std::string_view decoded) {
  if (value.is_string() && decoded.size() == spool::kDateBytes) {
    return spool::parse_date_days(decoded);
  }
  const auto us = moment_of(value, decoded, ColumnType::date);
  if (!us) return std::nullopt;
  return spool::days_of_us(*us);
}

bool names_special_time(std::string_view text) {
  constexpr auto kWords = std::to_array<std::string_view>(
      {"now", "today", "tomorrow", "yesterday", "epoch", "infinity", "allballs"});
  std::string plain;
  for (const char c : text) {
    // Inside ranges and composites these stand around letters without being any.
    if (c == '"' || c == '\\') continue;
    plain += c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
  }
  return std::any_of(kWords.begin(), kWords.end(),
                     [&](auto word) { return plain.find(word) != std::string::npos; });
}

}  // namespace sluice::sink
