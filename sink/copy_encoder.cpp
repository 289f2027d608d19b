#include "sink/copy_encoder.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <limits>

#include "sink/big_endian.hpp"
#include "sink/json_text.hpp"
#include "sink/numeric_binary.hpp"

namespace sluice::sink {
namespace {

using spool::EventView;
using spool::Field;
using spool::FieldSpan;
using spool::ValueKind;

constexpr std::uint32_t kNull = 0xffffffff;                     // the length of a NULL
constexpr std::int64_t kPostgresEpochUs = 946'684'800'000'000;  // 2000-01-01 in Unix time
constexpr char kJsonbVersion = 1;
constexpr std::size_t kLengthBytes = 4;
// The most that a value takes beyond its text: an id as text; also what numeric_bytes_max() adds.
constexpr std::size_t kValueBytesMax = 36;
static_assert(numeric_bytes_max(0) <= kValueBytesMax);
static_assert(numeric_bytes_max(1000) <= 1000 + kValueBytesMax);
constexpr std::size_t kFieldCount = 8;

// Why a value made no bytes.
enum class Misfit { none, out_of_range, wrong_type };

// One event's parts, found once a row.
struct Row {
  explicit Row(const EventView& view) : event(view), flags(view.header().flags & kMendings) {
    for (const FieldSpan& span : view.fields()) {
      fields[span.field % kFieldCount] = &span;
      text_bytes += span.length;
      if (span.field == static_cast<std::uint8_t>(Field::extra)) ++extra_runs;
    }
  }

  [[nodiscard]] const FieldSpan* field(Field which) const {
    return fields[static_cast<std::size_t>(which)];
  }

  const EventView& event;
  const unsigned flags;                                // only kMendings
  std::array<const FieldSpan*, kFieldCount> fields{};  // of several runs of one field, the last
  std::size_t text_bytes = 0;
  std::size_t extra_runs = 0;
};

char* write_null(char* out) {
  return put_u32(out, kNull);
}

char* write_uuid(char* out, const spool::Uuid& uuid) {
  out = put_u32(out, sizeof uuid.bytes);
  std::memcpy(out, uuid.bytes.data(), sizeof uuid.bytes);
  return out + sizeof uuid.bytes;
}

char* write_timestamp(char* out, std::int64_t unix_us) {
  out = put_u32(out, 8);
  return put_u64(out, static_cast<std::uint64_t>(unix_us - kPostgresEpochUs));
}

// Fills in the length of a value whose bytes are in [begin + kLengthBytes, end).
char* close_value(char* begin, char* end) {
  put_u32(begin,
          static_cast<std::uint32_t>(end - begin - static_cast<std::ptrdiff_t>(kLengthBytes)));
  return end;
}

char* write_text(char* out, std::string_view text) {
  out = put_u32(out, static_cast<std::uint32_t>(text.size()));
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

template <typename Int>
char* write_integer(char* out, std::int64_t value, Misfit& misfit) {
  if (value < std::numeric_limits<Int>::min() || value > std::numeric_limits<Int>::max()) {
    misfit = Misfit::out_of_range;
    return nullptr;
  }
  out = put_u32(out, sizeof(Int));
  if constexpr (sizeof(Int) == 2) return put_u16(out, static_cast<std::uint16_t>(value));
  if constexpr (sizeof(Int) == 4) return put_u32(out, static_cast<std::uint32_t>(value));
  return put_u64(out, static_cast<std::uint64_t>(value));
}

char* write_integer_as(char* out, ColumnType type, std::int64_t value, Misfit& misfit) {
  if (type == ColumnType::int2) return write_integer<std::int16_t>(out, value, misfit);
  if (type == ColumnType::int4) return write_integer<std::int32_t>(out, value, misfit);
  return write_integer<std::int64_t>(out, value, misfit);
}

// Reads integers as Postgres does: 5.0 and 1e3 are none.
char* write_integer_text(char* out, ColumnType type, std::string_view number, Misfit& misfit) {
  std::int64_t value = 0;
  const char* const end = number.data() + number.size();
  const auto [stop, error] = std::from_chars(number.data(), end, value);
  if (stop != end) {
    misfit = Misfit::wrong_type;
    return nullptr;
  }
  if (error != std::errc()) {
    misfit = Misfit::out_of_range;
    return nullptr;
  }
  return write_integer_as(out, type, value, misfit);
}

// A number too small for the type becomes 0, as each rounds to its nearest neighbour; one too large
// has no neighbour.
template <typename Float>
bool read_float(std::string_view number, Float& value) {
  const auto result = std::from_chars(number.data(), number.data() + number.size(), value);
  if (result.ec == std::errc()) return true;
  value = number.starts_with('-') ? Float{-0.0} : Float{0};
  return is_below_one(number);
}

template <typename Float, typename Bits>
char* write_float(char* out, std::string_view number, Misfit& misfit) {
  Float value = 0;
  if (!read_float(number, value)) {
    misfit = Misfit::out_of_range;
    return nullptr;
  }
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
  if (end != nullptr) return close_value(out, end);
  misfit = Misfit::out_of_range;
  return nullptr;
}

bool is_string(ValueKind kind) {
  return kind == ValueKind::string || kind == ValueKind::escaped_string;
}

std::string_view unquoted(std::string_view literal) {
  return literal.substr(1, literal.size() - 2);
}

char* write_field_text(char* out, const Row& row, const FieldSpan& span) {
  const std::string_view raw = row.event.text(span);
  const auto kind = static_cast<ValueKind>(span.kind);
  if (kind == ValueKind::string && row.flags == 0) return write_text(out, unquoted(raw));
  char* const begin = out + kLengthBytes;
  return close_value(out, is_string(kind) ? write_decoded(begin, unquoted(raw), row.flags)
                                          : write_json(begin, raw, row.flags));
}

char* write_field_jsonb(char* out, const Row& row, const FieldSpan& span) {
  char* at = out + kLengthBytes;
  *at++ = kJsonbVersion;
  return close_value(out, write_json(at, row.event.text(span), row.flags));
}

char* write_field_uuid(char* out, const Row& row, const FieldSpan& span, Misfit& misfit) {
  const auto kind = static_cast<ValueKind>(span.kind);
  std::string_view text = is_string(kind) ? unquoted(row.event.text(span)) : std::string_view();
  if (kind == ValueKind::escaped_string) {
    char* const scratch = out + kLengthBytes + sizeof(spool::Uuid);
    text = {scratch, static_cast<std::size_t>(write_decoded(scratch, text, row.flags) - scratch)};
  }
  auto uuid = spool::Uuid::parse(text);
  if (!uuid) uuid = spool::Uuid::parse_ulid(text);
  if (uuid) return write_uuid(out, *uuid);
  misfit = Misfit::wrong_type;
  return nullptr;
}

char* write_field_boolean(char* out, const Row& row, const FieldSpan& span, Misfit& misfit) {
  if (static_cast<ValueKind>(span.kind) != ValueKind::boolean) {
    misfit = Misfit::wrong_type;
    return nullptr;
  }
  out = put_u32(out, 1);
  *out++ = row.event.text(span).front() == 't' ? 1 : 0;
  return out;
}

char* write_field(char* out, ColumnType type, const Row& row, Field which, Misfit& misfit) {
  const FieldSpan* const span = row.field(which);
  if (span == nullptr) return write_null(out);
  if (type == ColumnType::jsonb) return write_field_jsonb(out, row, *span);
  if (static_cast<ValueKind>(span->kind) == ValueKind::null) return write_null(out);
  switch (type) {
    case ColumnType::text:
      return write_field_text(out, row, *span);
    case ColumnType::uuid:
      return write_field_uuid(out, row, *span, misfit);
    case ColumnType::boolean:
      return write_field_boolean(out, row, *span, misfit);
    case ColumnType::int2:
    case ColumnType::int4:
    case ColumnType::int8:
    case ColumnType::float4:
    case ColumnType::float8:
    case ColumnType::numeric:
      if (static_cast<ValueKind>(span->kind) == ValueKind::number) {
        return write_number(out, type, row.event.text(*span), misfit);
      }
      break;
    case ColumnType::timestamptz:
    case ColumnType::jsonb:
      break;
  }
  misfit = Misfit::wrong_type;
  return nullptr;
}

char* write_extra(char* out, ColumnType type, const Row& row) {
  if (row.extra_runs == 0) return write_null(out);
  char* at = out + kLengthBytes;
  if (type == ColumnType::jsonb) *at++ = kJsonbVersion;
  *at++ = '{';
  if (row.extra_runs == 1) {
    at = write_json(at, row.event.text(*row.field(Field::extra)), row.flags);
    *at++ = '}';
    return close_value(out, at);
  }
  for (const FieldSpan& span : row.event.fields()) {
    if (span.field != static_cast<std::uint8_t>(Field::extra)) continue;
    at = write_json(at, row.event.text(span), row.flags);
    *at++ = ',';
  }
  at[-1] = '}';
  return close_value(out, at);
}

char* write_value(char* out, Source source, ColumnType type, const Row& row, Misfit& misfit) {
  const spool::RecordHeader& header = row.event.header();
  switch (source) {
    case Source::id:
      return type == ColumnType::uuid ? write_uuid(out, header.id)
                                      : write_text(out, header.id.text());
    case Source::occurred_at:
      return write_timestamp(out, header.occurred_us);
    case Source::received_at:
      return write_timestamp(out, header.received_us);
    case Source::uid:
      return header.uid == spool::kNoUid ? write_null(out)
                                         : write_integer_as(out, type, header.uid, misfit);
    case Source::type:
      return write_field(out, type, row, Field::type, misfit);
    case Source::source:
      return write_field(out, type, row, Field::source, misfit);
    case Source::session_id:
      return write_field(out, type, row, Field::session_id, misfit);
    case Source::parent_id:
      return write_field(out, type, row, Field::parent_id, misfit);
    case Source::dedupe_key:
      return write_field(out, type, row, Field::dedupe_key, misfit);
    case Source::data:
      return write_field(out, type, row, Field::data, misfit);
    case Source::extra:
      return write_extra(out, type, row);
    case Source::instance:
    case Source::segment:
    case Source::index:
    case Source::line:
    case Source::member:
    case Source::pointer:
    case Source::constant:
      break;  // no column is bound to these
  }
  __builtin_unreachable();
}

EncodeError encode_error(const std::string& column, Misfit misfit) {
  if (misfit == Misfit::out_of_range) {
    return {"22003", column, "a number is out of range for its column's type"};
  }
  return {"22P02", column, "a value is not of its column's type"};
}

}  // namespace

CopyEncoder::CopyEncoder(std::span<const Column> columns, std::span<const ColumnType> types)
    : fixed_bytes_(2 + columns.size() * (kLengthBytes + kValueBytesMax)) {
  targets_.reserve(columns.size());
  for (std::size_t i = 0; i < columns.size(); ++i) {
    targets_.push_back({columns[i].source, types[i], columns[i].name});
    const auto uses = std::count_if(columns.begin(), columns.end(), [&](const Column& column) {
      return column.source == columns[i].source;
    });
    uses_max_ = std::max(uses_max_, static_cast<std::size_t>(uses));
  }
}

void CopyEncoder::append_header(CopyBuffer& buffer) const {
  // Signature, no flags, no header extension.
  constexpr std::string_view kHeader{"PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19};
  char* const out = buffer.prepare(kHeader.size());
  std::memcpy(out, kHeader.data(), kHeader.size());
  buffer.commit(out + kHeader.size());
}

void CopyEncoder::append_trailer(CopyBuffer& buffer) const {
  buffer.commit(put_u16(buffer.prepare(2), 0xffff));
}

std::optional<EncodeError> CopyEncoder::append_row(const spool::EventView& event,
                                                   const spool::Position& /*position*/,
                                                   CopyBuffer& buffer) const {
  const Row row(event);
  // Each run of `extra` may be followed by a comma.
  char* out = buffer.prepare(
      fixed_bytes_ + uses_max_ * (mended_bytes_max(row.text_bytes, row.flags) + row.extra_runs));
  Misfit misfit = Misfit::none;
  out = put_u16(out, static_cast<std::uint16_t>(targets_.size()));
  for (const Target& target : targets_) {
    out = write_value(out, target.source, target.type, row, misfit);
    if (misfit != Misfit::none) [[unlikely]]
      return encode_error(target.name, misfit);
  }
  buffer.commit(out);
  return std::nullopt;
}

}  // namespace sluice::sink
