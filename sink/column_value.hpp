// JSON values as values of columns: what both COPY formats agree on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "sink/catalog.hpp"
#include "sink/json_value.hpp"

namespace sluice::sink {

// How a column takes its values, found once for the table.
struct BoundColumn {
  ColumnType type{};      // of an array's elements, if it is one
  bool is_array = false;  // then the row goes in text format

  bool operator==(const BoundColumn&) const = default;
};

// Why a value cannot be its column's.
enum class Misfit : std::uint8_t {
  none,
  out_of_range,  // 22003
  wrong_type,    // 22P02
  bad_time,      // 22007
  missing,       // 23502
};

// The code that Postgres would give.
[[nodiscard]] std::string_view sqlstate_of(Misfit misfit);
// For people; never quotes the value.
[[nodiscard]] std::string_view message_of(Misfit misfit);

// The catalog's type as the encoder knows it.
[[nodiscard]] BoundColumn bound_column(const CatalogColumn& column);

// The column has no binary encoder, so that its rows go in text format.
[[nodiscard]] bool needs_text_format(const BoundColumn& column);

// Moments, as microseconds since the epoch, and days since it, of what JSON says: RFC 3339 text or
// a number since the epoch. None if it cannot be read.
// REQUIRES: `decoded` is the text of a string value, else anything.
[[nodiscard]] std::optional<std::int64_t> moment_of(const JsonValue& value,
                                                    std::string_view decoded, ColumnType type);
[[nodiscard]] std::optional<std::int32_t> day_of(const JsonValue& value, std::string_view decoded);

// Whether Postgres could read a word in the text as the moment at which it reads it, or as no
// moment at all (now, today, infinity, …). What a producer says is never passed on so.
[[nodiscard]] bool names_special_time(std::string_view text);

}  // namespace sluice::sink
