// Steps over JSON that is known to be valid.
#pragma once

#include <string_view>

#include "sink/json_value.hpp"

namespace sluice::sink {

// Each takes a place in the text and returns the one behind what it steps over. The text may hold
// invalid UTF-8, but is JSON apart from that; so they look for no end but that of the whole.

[[nodiscard]] inline const char* skip_space(const char* at, const char* end) {
  while (at != end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) ++at;
  return at;
}

// REQUIRES: a quote at `at`. `escaped` becomes true if there is a backslash, else stays.
[[nodiscard]] const char* skip_string(const char* at, const char* end, bool& escaped);

// REQUIRES: a value begins at `at`, with no space before it.
[[nodiscard]] const char* skip_value(const char* at, const char* end);

// The kind of the value that stands in [at, end) and is of it all.
[[nodiscard]] JsonValue value_between(const char* at, const char* end);

// A member on the way through an object.
struct JsonMember {
  const char* begin;     // its key's opening quote
  std::string_view key;  // without its quotes
  bool key_is_escaped;
  const char* value;
};

// The member that begins at `at`, up to its value. REQUIRES: a quote at `at`.
[[nodiscard]] JsonMember member_at(const char* at, const char* end);

// From behind a value to the next member or element, or to the closing bracket, or to the end.
[[nodiscard]] inline const char* skip_comma(const char* at, const char* end) {
  at = skip_space(at, end);
  if (at == end || *at != ',') return at;
  return skip_space(at + 1, end);
}

// Whether a key as it stands in the text, with escapes, is this name.
[[nodiscard]] bool escaped_key_is(const JsonMember& member, std::string_view name);

[[nodiscard]] inline bool key_is(const JsonMember& member, std::string_view name) {
  return member.key_is_escaped ? escaped_key_is(member, name) : member.key == name;
}

}  // namespace sluice::sink
