#include "sink/binary_value.hpp"

#include <bit>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>

#include "sink/big_endian.hpp"
#include "sink/json_text.hpp"
#include "sink/numeric_binary.hpp"

namespace sluice::sink {
namespace {

using spool::ValueKind;

constexpr std::int32_t kPostgresEpochDays = 10'957;  // 2000-01-01 in Unix time
constexpr std::size_t kLengthBytes = kBinaryLengthBytes;
static_assert(kLengthBytes + numeric_bytes_max(0) <= kBinaryValueBytesMax);
static_assert(kLengthBytes + numeric_bytes_max(1000) <= 1000 + kBinaryValueBytesMax);

char* refused(Misfit& misfit, Misfit why) {
  misfit = why;
  return nullptr;
}

// Fills in the length of a value whose bytes are in [begin + kLengthBytes, end).
char* close_value(char* begin, char* end) {
  put_u32(begin,
          static_cast<std::uint32_t>(end - begin - static_cast<std::ptrdiff_t>(kLengthBytes)));
  return end;
}

template <typename Int>
char* write_integer(char* out, std::int64_t value, Misfit& misfit) {
  if (value < std::numeric_limits<Int>::min() || value > std::numeric_limits<Int>::max()) {
    return refused(misfit, Misfit::out_of_range);
  }
  out = put_u32(out, sizeof(Int));
  if constexpr (sizeof(Int) == 2) return put_u16(out, static_cast<std::uint16_t>(value));
  if constexpr (sizeof(Int) == 4) return put_u32(out, static_cast<std::uint32_t>(value));
  return put_u64(out, static_cast<std::uint64_t>(value));
}

// Reads integers as Postgres does: 5.0 and 1e3 are none.
char* write_integer_text(char* out, ColumnType type, std::string_view number, Misfit& misfit) {
  std::int64_t value = 0;
  const char* const end = number.data() + number.size();
  const auto [stop, error] = std::from_chars(number.data(), end, value);
  if (stop != end) return refused(misfit, Misfit::wrong_type);
  if (error != std::errc()) return refused(misfit, Misfit::out_of_range);
  return write_binary_integer(out, type, value, misfit);
}

template <typename Float>
bool read_nearest(std::string_view number, Float& value) {
  const auto result = std::from_chars(number.data(), number.data() + number.size(), value);
  if (result.ec == std::errc()) return true;
  value = number.starts_with('-') ? Float{-0.0} : Float{0};
  return is_below_one(number);
}

template <typename Float, typename Bits>
char* write_float(char* out, std::string_view number, Misfit& misfit) {
  Float value = 0;
  if (!read_nearest(number, value)) return refused(misfit, Misfit::out_of_range);
  out = put_u32(out, sizeof(Float));
  if constexpr (sizeof(Float) == 4)
    return put_u32(out, std::bit_cast<Bits>(value));
  else
    return put_u64(out, std::bit_cast<Bits>(value));
}

char* write_number(char* out, ColumnType type, std::string_view number, Misfit& misfit) {
  if (type == ColumnType::float4) return write_float<float, std::uint32_t>(out, number, misfit);
  if (type == ColumnType::float8) return write_float<double, std::uint64_t>(out, number, misfit);
  if (type != ColumnType::numeric) return write_integer_text(out, type, number, misfit);
  char* const end = write_numeric(out + kLengthBytes, number);
  return end != nullptr ? close_value(out, end) : refused(misfit, Misfit::out_of_range);
}

char* write_text(char* out, const JsonValue& value, unsigned flags) {
  if (value.kind == ValueKind::string && flags == 0) return write_binary_text(out, value.literal());
  char* const begin = out + kLengthBytes;
  return close_value(out, value.is_string() ? write_decoded(begin, value.literal(), flags)
                                            : write_json(begin, value.text, flags));
}

char* write_jsonb(char* out, const JsonValue& value, unsigned flags) {
  char* at = out + kLengthBytes;
  *at++ = kJsonbVersion;
  return close_value(out, write_json(at, value.text, flags));
}

// The text of a string; decoded to `scratch` if it has escapes. Empty for other values.
std::string_view decoded(const JsonValue& value, char* scratch, unsigned flags) {
  if (!value.is_string()) return {};
  if (value.kind == ValueKind::string) return value.literal();
  const char* const end = write_decoded(scratch, value.literal(), flags);
  return {scratch, static_cast<std::size_t>(end - scratch)};
}

// What is decoded on the way is written behind where the value comes to lie.
char* write_uuid_text(char* out, const JsonValue& value, unsigned flags, Misfit& misfit) {
  const std::string_view text = decoded(value, out + kLengthBytes + sizeof(spool::Uuid), flags);
  auto uuid = spool::Uuid::parse(text);
  if (!uuid) uuid = spool::Uuid::parse_ulid(text);
  return uuid ? write_binary_uuid(out, *uuid) : refused(misfit, Misfit::wrong_type);
}

char* write_time(char* out, ColumnType type, const JsonValue& value, unsigned flags,
                 Misfit& misfit) {
  const std::string_view text = decoded(value, out + kLengthBytes + sizeof(std::int64_t), flags);
  if (type == ColumnType::date) {
    const auto days = day_of(value, text);
    if (!days) return refused(misfit, Misfit::bad_time);
    out = put_u32(out, sizeof *days);
    return put_u32(out, static_cast<std::uint32_t>(*days - kPostgresEpochDays));
  }
  const auto us = moment_of(value, text, type);
  return us ? write_binary_moment(out, *us) : refused(misfit, Misfit::bad_time);
}

char* write_boolean(char* out, const JsonValue& value, Misfit& misfit) {
  if (value.kind != ValueKind::boolean) return refused(misfit, Misfit::wrong_type);
  out = put_u32(out, 1);
  *out++ = value.text.front() == 't' ? 1 : 0;
  return out;
}

}  // namespace

char* write_binary_integer(char* out, ColumnType type, std::int64_t value, Misfit& misfit) {
  if (type == ColumnType::int2) return write_integer<std::int16_t>(out, value, misfit);
  if (type == ColumnType::int4) return write_integer<std::int32_t>(out, value, misfit);
  return write_integer<std::int64_t>(out, value, misfit);
}

char* write_binary_value(char* out, ColumnType type, const JsonValue& value, unsigned flags,
                         Misfit& misfit) {
  if (!value.is_there()) return write_binary_null(out);
  if (type == ColumnType::jsonb) return write_jsonb(out, value, flags);
  if (type == ColumnType::json) {
    return close_value(out, write_json(out + kLengthBytes, value.text, flags));
  }
  if (value.is_null()) return write_binary_null(out);
  switch (type) {
    case ColumnType::text:
      return write_text(out, value, flags);
    case ColumnType::uuid:
      return write_uuid_text(out, value, flags, misfit);
    case ColumnType::boolean:
      return write_boolean(out, value, misfit);
    case ColumnType::timestamptz:
    case ColumnType::timestamp:
    case ColumnType::date:
      return write_time(out, type, value, flags, misfit);
    case ColumnType::int2:
    case ColumnType::int4:
    case ColumnType::int8:
    case ColumnType::float4:
    case ColumnType::float8:
    case ColumnType::numeric:
      if (value.kind != ValueKind::number) return refused(misfit, Misfit::wrong_type);
      return write_number(out, type, value.text, misfit);
    case ColumnType::jsonb:
    case ColumnType::json:
    case ColumnType::other:
    case ColumnType::other_time:
      break;
  }
  std::abort();
}

bool read_float(std::string_view number, float& value) {
  return read_nearest(number, value);
}
bool read_float(std::string_view number, double& value) {
  return read_nearest(number, value);
}

}  // namespace sluice::sink
