// JSON values as values of COPY's binary format.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "sink/big_endian.hpp"
#include "sink/catalog.hpp"
#include "sink/column_value.hpp"
#include "sink/json_value.hpp"
#include "spool/uuid.hpp"

namespace sluice::sink {

// The most that a value takes beyond its mended text: the length before it, and the largest value
// that is not text.
inline constexpr std::size_t kBinaryValueBytesMax = 40;

inline constexpr std::size_t kBinaryLengthBytes = 4;
inline constexpr char kJsonbVersion = 1;  // the first byte of a jsonb

// Each writes a value with its length before it, and returns the end of it.

inline char* write_binary_null(char* out) {
  return put_u32(out, 0xffffffff);
}
inline char* write_binary_text(char* out, std::string_view text) {
  out = put_u32(out, static_cast<std::uint32_t>(text.size()));
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}
inline char* write_binary_uuid(char* out, const spool::Uuid& uuid) {
  out = put_u32(out, sizeof uuid.bytes);
  std::memcpy(out, uuid.bytes.data(), sizeof uuid.bytes);
  return out + sizeof uuid.bytes;
}
// Of timestamptz and timestamp.
inline char* write_binary_moment(char* out, std::int64_t unix_us) {
  constexpr std::int64_t kPostgresEpochUs = 946'684'800'000'000;  // 2000-01-01 in Unix time
  out = put_u32(out, sizeof unix_us);
  return put_u64(out, static_cast<std::uint64_t>(unix_us - kPostgresEpochUs));
}
// nullptr: it does not fit, and `misfit` says why. REQUIRES: an integer type.
char* write_binary_integer(char* out, ColumnType type, std::int64_t value, Misfit& misfit);

// A value that is missing is NULL; JSON's null is NULL too, but for JSON columns, where it is a
// value. `flags` are those of the record. nullptr: it does not fit, and `misfit` says why.
// REQUIRES: !needs_text_format() of the column's; room for kBinaryValueBytesMax and
// mended_bytes_max() of the text.
char* write_binary_value(char* out, ColumnType type, const JsonValue& value, unsigned flags,
                         Misfit& misfit);

// Whether Postgres reads the number as a float of the type, and which. A number too small for it
// becomes 0, as each rounds to its nearest neighbour; one too large has no neighbour.
[[nodiscard]] bool read_float(std::string_view number, float& value);
[[nodiscard]] bool read_float(std::string_view number, double& value);

}  // namespace sluice::sink
