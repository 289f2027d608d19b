#include "daemon/json_outline.hpp"

#include <algorithm>
#include <limits>
#include <utility>
#include <vector>

#include "daemon/printable.hpp"
#include "sink/json_scan.hpp"
#include "sink/json_text.hpp"

namespace sluice::daemon {

namespace {

using sink::JsonValue;
using spool::ValueKind;

constexpr std::size_t kStep = 2;  // of indenting
// What an array holds is told in one line if that is enough.
constexpr std::size_t kBriefBytesMax = 160;
// Deeper values are shown as they stand.
constexpr std::size_t kDepthMax = 100;

struct Member {
  std::string key;
  JsonValue value;
};

std::string whole(std::string_view text) {
  return printable(text, std::numeric_limits<std::size_t>::max());
}

std::string decoded(std::string_view literal) {
  std::string text(literal.size(), '\0');
  text.resize(static_cast<std::size_t>(sink::write_decoded(text.data(), literal, 0) - text.data()));
  return text;
}

std::string text_of(const JsonValue& value) {
  return value.is_string() ? decoded(value.literal()) : std::string(value.text);
}

bool is_nested(const JsonValue& value) {
  return value.kind == ValueKind::object || value.kind == ValueKind::array;
}

std::vector<Member> members_of(std::string_view object) {
  std::vector<Member> members;
  const char* const end = object.data() + object.size();
  const char* at = sink::skip_space(object.data() + 1, end);
  while (*at != '}') {
    const sink::JsonMember member = sink::member_at(at, end);
    const char* const behind = sink::skip_value(member.value, end);
    const JsonValue value = sink::value_between(member.value, behind);
    if (!value.is_null()) members.push_back({whole(decoded(member.key)), value});
    at = sink::skip_comma(behind, end);
  }
  return members;
}

std::vector<JsonValue> elements_of(std::string_view array) {
  std::vector<JsonValue> elements;
  const char* const end = array.data() + array.size();
  const char* at = sink::skip_space(array.data() + 1, end);
  while (*at != ']') {
    const char* const behind = sink::skip_value(at, end);
    elements.push_back(sink::value_between(at, behind));
    at = sink::skip_comma(behind, end);
  }
  return elements;
}

std::string lines_of(const JsonValue& value, std::size_t indent, std::size_t depth);

// The lines of a text, each behind a bar, so that none can pass for a member.
std::string barred(std::string_view text, std::size_t indent) {
  std::string lines;
  for (;;) {
    const std::size_t newline = text.find('\n');
    lines += std::string(indent, ' ') + "| " + whole(text.substr(0, newline)) + "\n";
    if (newline == std::string_view::npos) return lines;
    text.remove_prefix(newline + 1);
  }
}

std::string plain_member(const Member& member, std::size_t width, std::size_t indent) {
  const std::string text = text_of(member.value);
  const std::string margin(indent, ' ');
  if (text.find('\n') != std::string::npos) {
    return margin + member.key + "\n" + barred(text, indent + kStep);
  }
  const std::size_t gap = width - std::min(width, member.key.size()) + 2;
  return margin + member.key + std::string(gap, ' ') + whole(text) + "\n";
}

std::string lines_of_object(std::string_view object, std::size_t indent, std::size_t depth) {
  const std::vector<Member> members = members_of(object);
  std::size_t width = 0;
  for (const Member& member : members) {
    if (!is_nested(member.value)) width = std::max(width, member.key.size());
  }
  std::string lines;
  for (const Member& member : members) {
    if (!is_nested(member.value)) lines += plain_member(member, width, indent);
  }
  for (const Member& member : members) {
    if (!is_nested(member.value)) continue;
    const std::string inside = lines_of(member.value, indent + kStep, depth + 1);
    if (inside.empty()) continue;
    if (depth == 0 && !lines.empty()) lines += '\n';
    lines += std::string(indent, ' ') + member.key + "\n" + inside;
  }
  return lines;
}

// "key: value, key: value"; empty if there is too much for one line.
std::string brief(std::string_view object) {
  std::string line;
  for (const Member& member : members_of(object)) {
    if (is_nested(member.value)) return {};
    const std::string text = text_of(member.value);
    if (text.find('\n') != std::string::npos) return {};
    line += (line.empty() ? "" : ", ") + member.key + ": " + whole(text);
    if (line.size() > kBriefBytesMax) return {};
  }
  return line;
}

// Lines whose first begins with a dash instead of its last two spaces.
std::string dashed(std::string lines, std::size_t indent) {
  if (!lines.empty()) lines[indent - kStep] = '-';
  return lines;
}

std::string lines_of_element(const JsonValue& value, std::size_t indent, std::size_t depth) {
  const std::string margin(indent, ' ');
  if (value.kind == ValueKind::object) {
    const std::string line = brief(value.text);
    if (!line.empty()) return margin + "- " + line + "\n";
  }
  if (is_nested(value)) return dashed(lines_of(value, indent + kStep, depth + 1), indent + kStep);
  const std::string text = text_of(value);
  if (text.find('\n') != std::string::npos) {
    return dashed(barred(text, indent + kStep), indent + kStep);
  }
  return margin + "- " + whole(text) + "\n";
}

std::string lines_of(const JsonValue& value, std::size_t indent, std::size_t depth) {
  if (depth > kDepthMax || !is_nested(value)) {
    return std::string(indent, ' ') + whole(text_of(value)) + "\n";
  }
  if (value.kind == ValueKind::object) return lines_of_object(value.text, indent, depth);
  std::string lines;
  for (const JsonValue& element : elements_of(value.text)) {
    lines += lines_of_element(element, indent, depth);
  }
  return lines;
}

}  // namespace

std::string json_outline(std::string_view json) {
  const char* const end = json.data() + json.size();
  const char* const begin = sink::skip_space(json.data(), end);
  return lines_of(sink::value_between(begin, sink::skip_value(begin, end)), 0, 0);
}

}  // namespace sluice::daemon
