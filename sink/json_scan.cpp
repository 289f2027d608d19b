#include "sink/json_scan.hpp"

#include <array>
#include <bit>
#include <cstring>
#include <string>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "sink/json_text.hpp"

namespace sluice::sink {
namespace {

using spool::ValueKind;

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

bool ends_scalar(char c) {
  return c == ',' || c == '}' || c == ']' || is_space(c);
}

// The next quote or backslash.
const char* find_quote(const char* at, const char* end) {
#ifdef __SSE2__
  const __m128i quote = _mm_set1_epi8('"');
  const __m128i backslash = _mm_set1_epi8('\\');
  for (; end - at >= 16; at += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const __m128i found =
        _mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash));
    const auto mask = static_cast<unsigned>(_mm_movemask_epi8(found));
    if (mask != 0) return at + std::countr_zero(mask);
  }
#endif
  while (at != end && *at != '"' && *at != '\\') ++at;
  return at;
}

// The next quote or bracket of either kind.
const char* find_bracket(const char* at, const char* end) {
#ifdef __SSE2__
  // Brackets and braces differ in bit 0x20 alone.
  const __m128i quote = _mm_set1_epi8('"');
  const __m128i opening = _mm_set1_epi8('{');
  const __m128i closing = _mm_set1_epi8('}');
  const __m128i bit = _mm_set1_epi8(0x20);
  for (; end - at >= 16; at += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(at));
    const __m128i braces = _mm_or_si128(bytes, bit);
    const __m128i found = _mm_or_si128(
        _mm_cmpeq_epi8(bytes, quote),
        _mm_or_si128(_mm_cmpeq_epi8(braces, opening), _mm_cmpeq_epi8(braces, closing)));
    const auto mask = static_cast<unsigned>(_mm_movemask_epi8(found));
    if (mask != 0) return at + std::countr_zero(mask);
  }
#endif
  while (at != end && *at != '"' && (*at | 0x20) != '{' && (*at | 0x20) != '}') ++at;
  return at;
}

const char* skip_container(const char* at, const char* end) {
  std::size_t depth = 0;
  bool escaped = false;
  while (at != end) {
    at = find_bracket(at, end);
    if (at == end) break;
    if (*at == '"') {
      at = skip_string(at, end, escaped);
      continue;
    }
    const bool opens = (*at++ | 0x20) == '{';
    depth += opens ? 1 : std::size_t{0} - 1;
    if (depth == 0) break;
  }
  return at;
}

}  // namespace

const char* skip_string(const char* at, const char* end, bool& escaped) {
  ++at;
  while (true) {
    at = find_quote(at, end);
    if (at == end) return end;
    if (*at == '"') return at + 1;
    escaped = true;
    at += end - at > 1 ? 2 : 1;
  }
}

const char* skip_value(const char* at, const char* end) {
  bool escaped = false;
  if (at == end) return end;
  if (*at == '"') return skip_string(at, end, escaped);
  if (*at == '{' || *at == '[') return skip_container(at, end);
  while (at != end && !ends_scalar(*at)) ++at;
  return at;
}

JsonValue value_between(const char* at, const char* end) {
  const std::string_view text(at, static_cast<std::size_t>(end - at));
  switch (text.empty() ? '0' : text.front()) {
    case '"':
      return {text, text.find('\\') == std::string_view::npos ? ValueKind::string
                                                              : ValueKind::escaped_string};
    case '{':
      return {text, ValueKind::object};
    case '[':
      return {text, ValueKind::array};
    case 't':
    case 'f':
      return {text, ValueKind::boolean};
    case 'n':
      return {text, ValueKind::null};
    default:
      return {text, ValueKind::number};
  }
}

JsonMember member_at(const char* at, const char* end) {
  bool escaped = false;
  const char* const behind = skip_string(at, end, escaped);
  const char* value = skip_space(behind, end);
  if (value != end) value = skip_space(value + 1, end);  // the colon
  return {at, {at + 1, static_cast<std::size_t>(behind - at) - 2}, escaped, value};
}

bool escaped_key_is(const JsonMember& member, std::string_view name) {
  // An escape is longer than what it stands for.
  if (member.key.size() <= name.size() || member.key.size() > 6 * name.size()) return false;
  std::string decoded(member.key.size(), '\0');
  const char* const end = write_decoded(decoded.data(), member.key, spool::kReplaceNul);
  return std::string_view(decoded.data(), static_cast<std::size_t>(end - decoded.data())) == name;
}

}  // namespace sluice::sink
