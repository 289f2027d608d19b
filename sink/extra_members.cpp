#include "sink/extra_members.hpp"

#include <algorithm>

#include "sink/json_scan.hpp"
#include "sink/json_text.hpp"

namespace sluice::sink {
namespace {

using spool::Field;
using spool::FieldSpan;

// By spool::Field.
constexpr std::array<std::string_view, 6> kKeys = {R"("type":)",       R"("source":)",
                                                   R"("session_id":)", R"("parent_id":)",
                                                   R"("dedupe_key":)", R"("data":)"};

std::size_t number_of(Field field) {
  return static_cast<std::size_t>(field);
}

bool is_separator(char c) {
  return c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

bool is_known_field(const JsonMember& member) {
  return std::any_of(
             kKeys.begin(), kKeys.end(),
             [&](std::string_view key) { return key_is(member, key.substr(1, key.size() - 3)); }) ||
         key_is(member, "id");
}

}  // namespace

ExtraMembers::ExtraMembers(std::span<const Column> columns, std::span<const BoundColumn> bound) {
  for (std::size_t i = 0; i < columns.size(); ++i) {
    switch (columns[i].source) {
      case Source::type:
        takes_[number_of(Field::type)] = true;
        break;
      case Source::source:
        takes_[number_of(Field::source)] = true;
        break;
      case Source::session_id:
        takes_[number_of(Field::session_id)] = true;
        break;
      case Source::parent_id:
        takes_[number_of(Field::parent_id)] = true;
        break;
      case Source::dedupe_key:
        takes_[number_of(Field::dedupe_key)] = true;
        break;
      case Source::data:
        takes_[number_of(Field::data)] = true;
        break;
      case Source::id:
        takes_[number_of(Field::id_member)] = true;
        break;
      case Source::occurred_at:
        // A day is not the whole of it.
        takes_time_ = takes_time_ || bound[i].type != ColumnType::date;
        break;
      case Source::received_at:
      case Source::uid:
      case Source::segment:
      case Source::index:
      case Source::line:
      case Source::extra:
      case Source::member:
      case Source::pointer:
      case Source::constant:
        break;
    }
  }
}

bool ExtraMembers::takes_only_runs() const {
  return takes_time_ &&
         std::all_of(takes_.begin(), takes_.begin() + kKeys.size(), [](bool b) { return b; }) &&
         takes_[number_of(Field::id_member)];
}

void ExtraMembers::gather(const spool::EventView& event, std::span<const std::string_view> whole) {
  pieces_.clear();
  // First, as of members with the same key the last counts: an earlier one may be among these.
  if (!takes_time_) add_time(event);
  const std::size_t line_bytes = event.header().line_bytes;
  for (const FieldSpan& span : event.fields()) {
    const auto field = static_cast<Field>(span.field);
    if (field == Field::extra) {
      add_run(event.text(span), whole);
    } else if (takes_[number_of(field)] || span.begin >= line_bytes) {
      // A type that stands behind the line is the listener's, not the producer's.
      continue;
    } else if (field == Field::id_member) {
      pieces_.push_back({{}, event.text(span)});
    } else {
      pieces_.push_back({kKeys[number_of(field)], event.text(span)});
    }
  }
}

// The run without the members that columns take.
void ExtraMembers::add_run(std::string_view run, std::span<const std::string_view> whole) {
  const char* at = run.data();
  const char* const end = at + run.size();
  for (const std::string_view member : whole) {
    if (member.data() < at || member.data() >= end) continue;
    add_members(at, member.data());
    at = member.data() + member.size();
  }
  add_members(at, end);
}

// Members with commas around them, or nothing.
void ExtraMembers::add_members(const char* begin, const char* end) {
  while (begin != end && is_separator(*begin)) ++begin;
  while (begin != end && is_separator(end[-1])) --end;
  if (begin != end) pieces_.push_back({{}, {begin, static_cast<std::size_t>(end - begin)}});
}

// The record does not say where the member stands that gave the event's time: it is one that is
// neither a known field nor in a run.
void ExtraMembers::add_time(const spool::EventView& event) {
  if (event.header().occurred_us == event.header().received_us) return;
  const std::string_view line = event.line();
  const char* const end = line.data() + line.size();
  const char* at = skip_space(line.data(), end);
  if (at == end || *at != '{') return;
  at = skip_space(at + 1, end);
  while (at != end && *at == '"') {
    const JsonMember member = member_at(at, end);
    const char* const behind = skip_value(member.value, end);
    const auto fields = event.fields();
    const bool in_run = std::any_of(fields.begin(), fields.end(), [&](const FieldSpan& span) {
      const std::string_view text = event.text(span);
      return span.field == static_cast<std::uint8_t>(Field::extra) && at >= text.data() &&
             at < text.data() + text.size();
    });
    if (!in_run && !is_known_field(member)) add_members(at, behind);
    at = skip_comma(behind, end);
  }
}

std::size_t ExtraMembers::bytes_max(unsigned flags) const {
  std::size_t bytes = 2;
  for (const Piece& piece : pieces_) {
    bytes += piece.key.size() + mended_bytes_max(piece.text.size(), flags) + 1;
  }
  return bytes;
}

char* ExtraMembers::write(char* out, unsigned flags) const {
  *out++ = '{';
  for (const Piece& piece : pieces_) {
    out = std::copy(piece.key.begin(), piece.key.end(), out);
    out = write_json(out, piece.text, flags);
    *out++ = ',';
  }
  out[-1] = '}';
  return out;
}

}  // namespace sluice::sink
