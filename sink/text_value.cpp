#include "sink/text_value.hpp"

#include <array>
#include <charconv>
#include <cstdlib>
#include <string>

#include "sink/binary_value.hpp"
#include "sink/json_scan.hpp"
#include "sink/json_text.hpp"
#include "spool/timestamp.hpp"
#include "spool/uuid.hpp"

namespace sluice::sink {
namespace {

using spool::ValueKind;

constexpr std::string_view kNull = "\\N";

std::string_view text_of(const CopyBuffer& buffer) {
  return {reinterpret_cast<const char*>(buffer.bytes().data()), buffer.size()};
}

// The letter that stands behind a backslash for this character; 0: it stands for itself.
char escape_letter(char c) {
  switch (c) {
    case '\\':
      return '\\';
    case '\t':
      return 't';
    case '\n':
      return 'n';
    case '\r':
      return 'r';
    default:
      return 0;
  }
}

// One value's text, before COPY's escapes. Each write_…() appends to out_.
class PlainText final {
 public:
  PlainText(CopyBuffer& out, unsigned flags) : out_(out), flags_(flags) {}

  [[nodiscard]] Misfit misfit() const { return misfit_; }

  void write(const BoundColumn& column, const JsonValue& value) {
    if (column.is_array) return write_array_column(column.type, value);
    write_single(column.type, value);
  }

 private:
  void refuse(Misfit why) { misfit_ = why; }

  void write_raw(const JsonValue& value) {
    char* const to = out_.prepare(mended_bytes_max(value.text.size(), flags_));
    out_.commit(write_json(to, value.text, flags_));
  }

  void write_decoded_text(const JsonValue& value) {
    char* const to = out_.prepare(mended_bytes_max(value.text.size(), flags_));
    out_.commit(write_decoded(to, value.literal(), flags_));
  }

  [[nodiscard]] std::string decoded(const JsonValue& value) const {
    if (!value.is_string()) return {};
    std::string text(mended_bytes_max(value.text.size(), flags_), '\0');
    const char* const end = write_decoded(text.data(), value.literal(), flags_);
    text.resize(static_cast<std::size_t>(end - text.data()));
    return text;
  }

  void write_single(ColumnType type, const JsonValue& value) {
    switch (type) {
      case ColumnType::json:
      case ColumnType::jsonb:
        return write_raw(value);
      case ColumnType::text:
      case ColumnType::other:
        return value.is_string() ? write_decoded_text(value) : write_raw(value);
      case ColumnType::other_time:
        return write_other_time(value);
      case ColumnType::uuid:
        return write_uuid(value);
      case ColumnType::timestamptz:
      case ColumnType::timestamp:
      case ColumnType::date:
        return write_time(type, value);
      case ColumnType::boolean:
        return value.kind == ValueKind::boolean ? write_raw(value) : refuse(Misfit::wrong_type);
      case ColumnType::int2:
      case ColumnType::int4:
      case ColumnType::int8:
      case ColumnType::float4:
      case ColumnType::float8:
      case ColumnType::numeric:
        return write_number(type, value);
    }
    std::abort();
  }

  void write_other_time(const JsonValue& value) {
    if (!value.is_string()) return write_raw(value);
    const std::string text = decoded(value);
    if (names_special_time(text)) return refuse(Misfit::bad_time);
    out_.append(text);
  }

  void write_uuid(const JsonValue& value) {
    const std::string text = decoded(value);
    auto uuid = spool::Uuid::parse(text);
    if (!uuid) uuid = spool::Uuid::parse_ulid(text);
    if (!uuid) return refuse(Misfit::wrong_type);
    out_.append(uuid->text());
  }

  void write_time(ColumnType type, const JsonValue& value) {
    const std::string text = decoded(value);
    if (type == ColumnType::date) {
      const auto days = day_of(value, text);
      if (!days) return refuse(Misfit::bad_time);
      return out_.commit(spool::write_date(out_.prepare(spool::kDateBytes), *days));
    }
    const auto us = moment_of(value, text, type);
    if (!us) return refuse(Misfit::bad_time);
    out_.commit(spool::write_rfc3339(out_.prepare(spool::kRfc3339Bytes), *us));
  }

  // What the binary format takes, this one takes.
  void write_number(ColumnType type, const JsonValue& value) {
    Misfit misfit = Misfit::none;
    char* const unused = out_.prepare(kBinaryValueBytesMax + value.text.size());
    (void)write_binary_value(unused, type, value, flags_, misfit);
    if (misfit != Misfit::none) return refuse(misfit);
    if (type == ColumnType::float4) return write_float<float>(value.text);
    if (type == ColumnType::float8) return write_float<double>(value.text);
    out_.append(value.text);
  }

  // Postgres refuses a number that is too small for the type, so it gets the nearest one.
  template <typename Float>
  void write_float(std::string_view number) {
    Float nearest = 0;
    (void)read_float(number, nearest);
    std::array<char, 64> text{};
    const auto end = std::to_chars(text.data(), text.data() + text.size(), nearest).ptr;
    out_.append({text.data(), static_cast<std::size_t>(end - text.data())});
  }

  void write_array_column(ColumnType type, const JsonValue& value) {
    if (value.kind == ValueKind::array) return write_array(type, value.text);
    const bool is_time = type == ColumnType::timestamptz || type == ColumnType::timestamp ||
                         type == ColumnType::date;
    if (!value.is_string() || is_time) return refuse(Misfit::wrong_type);
    // Postgres's own way of writing arrays.
    write_single(type == ColumnType::other_time ? type : ColumnType::other, value);
  }

  void write_array(ColumnType type, std::string_view array) {
    const char* const end = array.data() + array.size();
    const char* at = skip_space(array.data() + 1, end);
    out_.append("{");
    for (bool first = true; at != end && *at != ']'; first = false) {
      if (!first) out_.append(",");
      const char* const behind = skip_value(at, end);
      write_element(type, value_between(at, behind));
      at = skip_comma(behind, end);
    }
    out_.append("}");
  }

  void write_element(ColumnType type, const JsonValue& element) {
    const bool is_json = type == ColumnType::json || type == ColumnType::jsonb;
    if (element.kind == ValueKind::array && !is_json) return write_array(type, element.text);
    if (element.is_null() && !is_json) return out_.append("NULL");
    CopyBuffer text;
    PlainText plain(text, flags_);
    plain.write_single(type, element);
    if (plain.misfit() != Misfit::none) return refuse(plain.misfit());
    // In quotes nothing but quotes and backslashes has a meaning, and NULL is a text.
    char* to = out_.prepare(2 * text.size() + 2);
    *to++ = '"';
    for (const char c : text_of(text)) {
      if (c == '"' || c == '\\') *to++ = '\\';
      *to++ = c;
    }
    *to++ = '"';
    out_.commit(to);
  }

  CopyBuffer& out_;
  const unsigned flags_;
  Misfit misfit_ = Misfit::none;
};

}  // namespace

void append_escaped(CopyBuffer& out, std::string_view text) {
  std::size_t escapes = 0;
  for (const char c : text) escapes += escape_letter(c) != 0 ? 1 : 0;
  if (escapes == 0) return out.append(text);
  char* to = out.prepare(text.size() + escapes);
  for (const char c : text) {
    const char letter = escape_letter(c);
    if (letter != 0) *to++ = '\\';
    *to++ = letter != 0 ? letter : c;
  }
  out.commit(to);
}

bool append_text_value(CopyBuffer& out, CopyBuffer& scratch, const BoundColumn& column,
                       const JsonValue& value, unsigned flags, Misfit& misfit) {
  const bool is_json =
      !column.is_array && (column.type == ColumnType::json || column.type == ColumnType::jsonb);
  if (!value.is_there() || (value.is_null() && !is_json)) {
    out.append(kNull);
    return true;
  }
  scratch.clear();
  PlainText plain(scratch, flags);
  plain.write(column, value);
  misfit = plain.misfit();
  if (misfit != Misfit::none) return false;
  append_escaped(out, text_of(scratch));
  return true;
}

}  // namespace sluice::sink
