#include "sink/copy_encoder.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "sink/big_endian.hpp"
#include "sink/binary_value.hpp"
#include "sink/json_scan.hpp"
#include "sink/json_text.hpp"
#include "sink/text_value.hpp"
#include "spool/timestamp.hpp"

namespace sluice::sink {
namespace {

using spool::EventView;
using spool::Field;
using spool::FieldSpan;
using spool::ValueKind;

constexpr std::size_t kFieldCount = 8;
constexpr std::uint32_t kNoSlot = 0xffffffff;
// The most that a JSON scalar of the daemon's own takes: a uuid or a moment in quotes.
constexpr std::size_t kMadeBytesMax = 48;
static_assert(kMadeBytesMax >= spool::kRfc3339Bytes + 2);

// The field that the source is; none if it is no field of the record.
std::optional<Field> field_of(Source source) {
  switch (source) {
    case Source::type:
      return Field::type;
    case Source::source:
      return Field::source;
    case Source::session_id:
      return Field::session_id;
    case Source::parent_id:
      return Field::parent_id;
    case Source::dedupe_key:
      return Field::dedupe_key;
    case Source::data:
      return Field::data;
    case Source::id:
    case Source::occurred_at:
    case Source::received_at:
    case Source::uid:
    case Source::segment:
    case Source::index:
    case Source::line:
    case Source::extra:
    case Source::member:
    case Source::pointer:
    case Source::constant:
      return std::nullopt;
  }
  std::abort();
}

JsonValue in_quotes(char* made, char* end) {
  made[0] = '"';
  *end++ = '"';
  return {{made, static_cast<std::size_t>(end - made)}, ValueKind::string};
}

JsonValue moment_value(char* made, std::int64_t us) {
  return in_quotes(made, spool::write_rfc3339(made + 1, us));
}

JsonValue uuid_value(char* made, const spool::Uuid& uuid) {
  const std::string text = uuid.text();
  std::memcpy(made + 1, text.data(), text.size());
  return in_quotes(made, made + 1 + text.size());
}

JsonValue number_value(char* made, std::uint64_t number) {
  const char* const end = std::to_chars(made, made + kMadeBytesMax, number).ptr;
  return {{made, static_cast<std::size_t>(end - made)}, ValueKind::number};
}

std::string_view text_of(const CopyBuffer& buffer) {
  return {reinterpret_cast<const char*>(buffer.bytes().data()), buffer.size()};
}

JsonValue json_value(std::string_view json) {
  return value_between(json.data(), json.data() + json.size());
}

}  // namespace

// One event's parts, found once a row.
struct CopyEncoder::Row {
  Row(const EventView& view, const spool::Position& place)
      : event(view), position(place), flags(view.header().flags & kMendings) {
    for (const FieldSpan& span : view.fields()) {
      fields[span.field % kFieldCount] = &span;
      text_bytes += span.length;
      if (span.field == static_cast<std::uint8_t>(Field::extra)) ++extra_runs;
    }
  }

  [[nodiscard]] JsonValue field(Field which) const {
    const FieldSpan* const span = fields[static_cast<std::size_t>(which)];
    if (span == nullptr) return {};
    return {event.text(*span), static_cast<ValueKind>(span->kind)};
  }

  // The object of all runs. REQUIRES: extra_runs != 0
  char* write_extra_runs(char* out) const {
    *out++ = '{';
    if (extra_runs == 1) {
      out = write_json(out, field(Field::extra).text, flags);
      *out++ = '}';
      return out;
    }
    for (const FieldSpan& span : event.fields()) {
      if (span.field != static_cast<std::uint8_t>(Field::extra)) continue;
      out = write_json(out, event.text(span), flags);
      *out++ = ',';
    }
    out[-1] = '}';
    return out;
  }

  const EventView& event;
  const spool::Position& position;
  const unsigned flags;                                // only kMendings
  std::array<const FieldSpan*, kFieldCount> fields{};  // of several runs of one field, the last
  std::size_t text_bytes = 0;
  std::size_t extra_runs = 0;
};

CopyEncoder::CopyEncoder(std::span<const Column> columns, std::span<const BoundColumn> bound)
    : extra_members_(columns, bound) {
  if (std::any_of(bound.begin(), bound.end(), needs_text_format)) format_ = CopyFormat::text;
  fixed_bytes_ = sizeof(std::uint16_t) + columns.size() * kBinaryValueBytesMax;
  targets_.reserve(columns.size());
  names_.reserve(columns.size());
  for (std::size_t i = 0; i < columns.size(); ++i) {
    add_target(columns[i], bound[i]);
    const auto uses = std::count_if(columns.begin(), columns.end(), [&](const Column& column) {
      return field_of(column.source) && column.source == columns[i].source;
    });
    uses_max_ = std::max(uses_max_, static_cast<std::size_t>(uses));
  }
  scratch_.found.resize(slot_names_.size());
  has_to_look_ =
      !slot_names_.empty() || has_lines_ ||
      (extra_columns_ != 0 && (!extra_members_.takes_only_runs() || format_ == CopyFormat::text));
}

CopyEncoder::Way CopyEncoder::way_of(const Column& column, const BoundColumn& bound) {
  const ColumnType type = bound.type;
  if (column.source == Source::constant) return Way::constant;
  if (column.source == Source::extra) return Way::extra;
  if (column.source == Source::id && type == ColumnType::uuid) return Way::id;
  if (type == ColumnType::timestamptz) {
    if (column.source == Source::occurred_at) return Way::occurred_at;
    if (column.source == Source::received_at) return Way::received_at;
  }
  if (column.source == Source::uid && type == ColumnType::int8 && !column.required) {
    return Way::uid;
  }
  if (field_of(column.source) && !column.required) {
    if (type == ColumnType::text) return Way::text;
    if (type == ColumnType::jsonb) return Way::jsonb;
  }
  return Way::any;
}

void CopyEncoder::add_target(const Column& column, const BoundColumn& bound) {
  Target target{.source = column.source,
                .way = way_of(column, bound),
                .field = field_of(column.source).value_or(Field{}),
                .column = bound,
                .required = column.required,
                .slot = kNoSlot};
  if (column.source == Source::member || column.source == Source::pointer) {
    target.slot = slot_of(column);
  } else if (column.source == Source::constant) {
    target.slot = static_cast<std::uint32_t>(constants_.size());
    constants_.push_back(encoded_constant(bound, column.from));
    fixed_bytes_ += constants_.back().size();
  }
  if (column.source == Source::extra) ++extra_columns_;
  has_lines_ = has_lines_ || column.source == Source::line;
  targets_.push_back(target);
  names_.push_back(column.name);
}

std::uint32_t CopyEncoder::slot_of(const Column& column) {
  const std::vector<std::string> path = column.source == Source::member
                                            ? std::vector<std::string>{column.from}
                                            : pointer_tokens(column.from);
  std::string name;
  for (const std::string& token : path) name += token + '\0';
  const auto found = std::find(slot_names_.begin(), slot_names_.end(), name);
  const auto slot = static_cast<std::uint32_t>(found - slot_names_.begin());
  if (found != slot_names_.end()) return slot;
  slot_names_.push_back(std::move(name));
  // What is below `data` is looked for there, everything else in the members of the event.
  const std::span<const std::string> tokens(path);
  if (path.size() > 1 && path.front() == "data") {
    in_data_.add(tokens.subspan(1), slot);
  } else {
    in_members_.add(tokens, slot);
  }
  return slot;
}

std::string CopyEncoder::encoded_constant(const BoundColumn& column,
                                          const std::string& json) const {
  CopyBuffer buffer;
  Misfit misfit = Misfit::none;
  const JsonValue value = json_value(json);
  if (format_ == CopyFormat::text) {
    (void)append_text_value(buffer, scratch_.text, column, value, 0, misfit);
  } else {
    char* const out = buffer.prepare(kBinaryValueBytesMax + json.size());
    const char* const end = write_binary_value(out, column.type, value, 0, misfit);
    if (misfit == Misfit::none) buffer.commit(end);
  }
  return std::string(text_of(buffer));
}

void CopyEncoder::append_header(CopyBuffer& buffer) const {
  // Signature, no flags, no header extension.
  constexpr std::string_view kHeader{"PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0", 19};
  if (format_ == CopyFormat::binary) buffer.append(kHeader);
}

void CopyEncoder::append_trailer(CopyBuffer& buffer) const {
  if (format_ == CopyFormat::binary) buffer.commit(put_u16(buffer.prepare(2), 0xffff));
}

std::optional<EncodeError> CopyEncoder::append_row(const EventView& event,
                                                   const spool::Position& position,
                                                   CopyBuffer& buffer) const {
  const Row row(event, position);
  if (has_to_look_) find_values(row);
  const Target* failed = nullptr;
  const Misfit misfit = format_ == CopyFormat::binary ? append_binary(row, buffer, failed)
                                                      : append_text(row, buffer, failed);
  if (misfit == Misfit::none) [[likely]]
    return std::nullopt;
  return EncodeError{std::string(sqlstate_of(misfit)),
                     names_[static_cast<std::size_t>(failed - targets_.data())],
                     std::string(message_of(misfit))};
}

// Members and pointers, and what is left for `extra`.
void CopyEncoder::find_values(const Row& row) const {
  scratch_.members.clear();
  std::fill(scratch_.found.begin(), scratch_.found.end(), JsonValue{});
  if (!in_data_.empty()) in_data_.find_in(row.field(Field::data).text, scratch_.found);
  if (!in_members_.empty()) {
    for (const FieldSpan& span : row.event.fields()) {
      if (span.field != static_cast<std::uint8_t>(Field::extra)) continue;
      in_members_.find_in_members(row.event.text(span), scratch_.found, scratch_.members);
    }
  }
  if (extra_columns_ != 0) extra_members_.gather(row.event, scratch_.members);
}

std::size_t CopyEncoder::row_bytes_max(const Row& row) const {
  std::size_t bytes = fixed_bytes_ + uses_max_ * mended_bytes_max(row.text_bytes, row.flags) +
                      extra_columns_ * row.extra_runs;  // a comma behind each
  if (!has_to_look_) return bytes;
  bytes += extra_columns_ * extra_members_.bytes_max(row.flags);
  for (const Target& target : targets_) {
    if (target.source == Source::member || target.source == Source::pointer) {
      bytes += mended_bytes_max(scratch_.found[target.slot].text.size(), row.flags);
    } else if (target.source == Source::line) {
      bytes += mended_bytes_max(row.event.line().size(), row.flags);
    }
  }
  return bytes;
}

// The value as JSON, if need be made of what the daemon knows. REQUIRES: `made` has room for
// kMadeBytesMax; the source is neither extra nor a constant.
JsonValue CopyEncoder::value_of(const Target& target, const Row& row, char* made) const {
  const spool::RecordHeader& header = row.event.header();
  switch (target.source) {
    case Source::id:
      return uuid_value(made, header.id);
    case Source::occurred_at:
      return moment_value(made, header.occurred_us);
    case Source::received_at:
      return moment_value(made, header.received_us);
    case Source::uid:
      return header.uid == spool::kNoUid ? JsonValue{} : number_value(made, header.uid);
    case Source::segment:
      return uuid_value(made, row.position.segment);
    case Source::index:
      return number_value(made, row.position.index);
    case Source::line:
      return {row.event.line(), ValueKind::object};
    case Source::member:
    case Source::pointer:
      return scratch_.found[target.slot];
    case Source::type:
    case Source::source:
    case Source::session_id:
    case Source::parent_id:
    case Source::dedupe_key:
    case Source::data:
      return row.field(target.field);
    case Source::extra:
    case Source::constant:
      break;
  }
  std::abort();
}

Misfit CopyEncoder::append_binary(const Row& row, CopyBuffer& buffer, const Target*& failed) const {
  char* out = buffer.prepare(row_bytes_max(row));
  Misfit misfit = Misfit::none;
  out = put_u16(out, static_cast<std::uint16_t>(targets_.size()));
  for (const Target& target : targets_) {
    out = write_binary(out, target, row, misfit);
    if (misfit != Misfit::none) [[unlikely]] {
      failed = &target;
      return misfit;
    }
  }
  buffer.commit(out);
  return misfit;
}

char* CopyEncoder::write_binary(char* out, const Target& target, const Row& row,
                                Misfit& misfit) const {
  const spool::RecordHeader& header = row.event.header();
  const FieldSpan* const span = row.fields[static_cast<std::size_t>(target.field)];
  switch (target.way) {
    case Way::id:
      return write_binary_uuid(out, header.id);
    case Way::occurred_at:
      return write_binary_moment(out, header.occurred_us);
    case Way::received_at:
      return write_binary_moment(out, header.received_us);
    case Way::uid:
      if (header.uid == spool::kNoUid) return write_binary_null(out);
      return write_binary_integer(out, ColumnType::int8, header.uid, misfit);
    case Way::text:
      if (span == nullptr) return write_binary_null(out);
      if (row.flags != 0 || span->kind != static_cast<std::uint8_t>(ValueKind::string)) break;
      return write_binary_text(out, row.event.text(*span).substr(1, span->length - 2u));
    case Way::jsonb:
      if (span == nullptr) return write_binary_null(out);
      if (row.flags != 0) break;
      out = put_u32(out, span->length + 1u);
      *out++ = kJsonbVersion;
      std::memcpy(out, row.event.text(*span).data(), span->length);
      return out + span->length;
    case Way::constant:
      return std::copy(constants_[target.slot].begin(), constants_[target.slot].end(), out);
    case Way::extra:
      return write_extra(out, target, row, misfit);
    case Way::any:
      break;
  }
  return write_any(out, target, row, misfit);
}

char* CopyEncoder::write_any(char* out, const Target& target, const Row& row,
                             Misfit& misfit) const {
  std::array<char, kMadeBytesMax> made;
  const JsonValue value = value_of(target, row, made.data());
  if (target.required && (!value.is_there() || value.is_null())) {
    misfit = Misfit::missing;
    return nullptr;
  }
  return write_binary_value(out, target.column.type, value, row.flags, misfit);
}

char* CopyEncoder::write_extra(char* out, const Target& target, const Row& row,
                               Misfit& misfit) const {
  const bool none = has_to_look_ ? extra_members_.empty() : row.extra_runs == 0;
  if (none) {
    if (target.required) misfit = Misfit::missing;
    return write_binary_null(out);
  }
  char* at = out + kBinaryLengthBytes;
  if (target.column.type == ColumnType::jsonb) *at++ = kJsonbVersion;
  at = has_to_look_ ? extra_members_.write(at, row.flags) : row.write_extra_runs(at);
  put_u32(out, static_cast<std::uint32_t>(at - out) - std::uint32_t{kBinaryLengthBytes});
  return at;
}

Misfit CopyEncoder::append_text(const Row& row, CopyBuffer& buffer, const Target*& failed) const {
  const std::size_t before = buffer.size();
  Misfit misfit = Misfit::none;
  for (const Target& target : targets_) {
    if (&target != &targets_.front()) buffer.append("\t");
    if (append_text_column(target, row, buffer, misfit)) continue;
    buffer.truncate(before);
    failed = &target;
    return misfit;
  }
  buffer.append("\n");
  return misfit;
}

bool CopyEncoder::append_text_column(const Target& target, const Row& row, CopyBuffer& buffer,
                                     Misfit& misfit) const {
  if (target.source == Source::constant) {
    buffer.append(constants_[target.slot]);
    return true;
  }
  JsonValue value;
  std::array<char, kMadeBytesMax> made;
  unsigned flags = row.flags;
  if (target.source != Source::extra) {
    value = value_of(target, row, made.data());
  } else if (!extra_members_.empty()) {
    scratch_.extra.clear();
    char* const out = scratch_.extra.prepare(extra_members_.bytes_max(row.flags));
    scratch_.extra.commit(extra_members_.write(out, row.flags));
    value = {text_of(scratch_.extra), ValueKind::object};
    flags = 0;  // it is mended
  }
  if (target.required && (!value.is_there() || value.is_null())) {
    misfit = Misfit::missing;
    return false;
  }
  return append_text_value(buffer, scratch_.text, target.column, value, flags, misfit);
}

Misfit constant_misfit(const std::string& json, const BoundColumn& column) {
  CopyBuffer buffer;
  CopyBuffer scratch;
  Misfit misfit = Misfit::none;
  (void)append_text_value(buffer, scratch, column, json_value(json), 0, misfit);
  return misfit;
}

}  // namespace sluice::sink
