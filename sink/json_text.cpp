#include "sink/json_text.hpp"

#include <cstdint>
#include <cstring>

namespace sluice::sink {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
constexpr std::string_view kReplacementEscape = "\\ufffd";
constexpr std::size_t kUnicodeEscapeBytes = 6;  // backslash, u, four digits

char* append(char* out, std::string_view text) {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

bool is_high_surrogate(std::uint32_t unit) {
  return unit >= 0xD800 && unit <= 0xDBFF;
}
bool is_low_surrogate(std::uint32_t unit) {
  return unit >= 0xDC00 && unit <= 0xDFFF;
}

std::uint32_t hex_value(char c) {
  if (c <= '9') return static_cast<std::uint32_t>(c - '0');
  return static_cast<std::uint32_t>((c | 0x20) - 'a' + 10);
}

// REQUIRES: `at` points to the backslash of `\uXXXX`.
std::uint32_t escaped_unit(const char* at) {
  return hex_value(at[2]) << 12 | hex_value(at[3]) << 8 | hex_value(at[4]) << 4 | hex_value(at[5]);
}

bool is_unicode_escape(const char* at, const char* end) {
  return end - at >= static_cast<std::ptrdiff_t>(kUnicodeEscapeBytes) && at[0] == '\\' &&
         at[1] == 'u';
}

// What a `\uXXXX` escape stands for, together with the one after it if they are a surrogate pair.
struct EscapedPoint {
  std::uint32_t code_point;  // half a surrogate pair stays as it is
  std::size_t bytes;         // of the escape or of both
};

EscapedPoint escaped_point(const char* at, const char* end) {
  const std::uint32_t first = escaped_unit(at);
  const char* next = at + kUnicodeEscapeBytes;
  if (is_high_surrogate(first) && is_unicode_escape(next, end)) {
    const std::uint32_t second = escaped_unit(next);
    if (is_low_surrogate(second)) {
      return {0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00), 2 * kUnicodeEscapeBytes};
    }
  }
  return {first, kUnicodeEscapeBytes};
}

bool is_half_pair(std::uint32_t code_point) {
  return is_high_surrogate(code_point) || is_low_surrogate(code_point);
}

// What the first byte of a sequence of several bytes asks of the rest (Unicode 15, table 3-7).
struct Lead {
  int continuations;  // 0: no sequence begins with this byte
  std::uint8_t second_min = 0x80;
  std::uint8_t second_max = 0xBF;
};

Lead lead_of(std::uint8_t byte) {
  if (byte < 0xC2 || byte > 0xF4) return {0};
  if (byte <= 0xDF) return {1};
  if (byte == 0xE0) return {2, 0xA0};
  if (byte == 0xED) return {2, 0x80, 0x9F};
  if (byte <= 0xEF) return {2};
  if (byte == 0xF0) return {3, 0x90};
  if (byte == 0xF4) return {3, 0x80, 0x8F};
  return {3};
}

struct Sequence {
  std::size_t bytes;  // of a whole sequence, or of a bad one's maximal part
  bool valid;
};

// REQUIRES: at < end, and *at is no ASCII.
Sequence sequence_at(const char* at, const char* end) {
  const Lead lead = lead_of(static_cast<std::uint8_t>(*at));
  if (lead.continuations == 0) return {1, false};
  std::size_t bytes = 1;
  for (int i = 0; i < lead.continuations; ++i, ++bytes) {
    if (at + bytes == end) return {bytes, false};
    const auto byte = static_cast<std::uint8_t>(at[bytes]);
    const std::uint8_t min = i == 0 ? lead.second_min : std::uint8_t{0x80};
    const std::uint8_t max = i == 0 ? lead.second_max : std::uint8_t{0xBF};
    if (byte < min || byte > max) return {bytes, false};
  }
  return {bytes, true};
}

bool is_ascii(char c) {
  return static_cast<std::uint8_t>(c) < 0x80;
}

// Copies text without escapes. Only kReplaceText has anything to mend in it.
char* write_plain(char* out, const char* at, const char* end, unsigned flags) {
  if ((flags & spool::kReplaceText) == 0) {
    return append(out, {at, static_cast<std::size_t>(end - at)});
  }
  while (at != end) {
    if (is_ascii(*at)) {
      *out++ = *at++;
      continue;
    }
    const Sequence sequence = sequence_at(at, end);
    out = append(out, sequence.valid ? std::string_view(at, sequence.bytes) : kReplacement);
    at += sequence.bytes;
  }
  return out;
}

char* write_utf8(char* out, std::uint32_t point) {
  const auto put = [&out](std::uint32_t byte) { *out++ = static_cast<char>(byte); };
  if (point < 0x80) {
    put(point);
  } else if (point < 0x800) {
    put(0xC0 | point >> 6);
    put(0x80 | (point & 0x3F));
  } else if (point < 0x10000) {
    put(0xE0 | point >> 12);
    put(0x80 | (point >> 6 & 0x3F));
    put(0x80 | (point & 0x3F));
  } else {
    put(0xF0 | point >> 18);
    put(0x80 | (point >> 12 & 0x3F));
    put(0x80 | (point >> 6 & 0x3F));
    put(0x80 | (point & 0x3F));
  }
  return out;
}

// The character that a backslash and `c` stand for.
char simple_escape(char c) {
  switch (c) {
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    default:
      return c;  // quote, backslash, slash
  }
}

char* write_decoded_point(char* out, std::uint32_t point, unsigned flags) {
  if (point == 0 && (flags & spool::kStripNul) != 0) return out;
  if (point == 0 || is_half_pair(point)) return append(out, kReplacement);
  return write_utf8(out, point);
}

char* write_escape(char* out, std::string_view escape, std::uint32_t point, unsigned flags) {
  if (point == 0 && (flags & spool::kStripNul) != 0) return out;
  const bool bad = (point == 0 && (flags & spool::kReplaceNul) != 0) ||
                   (is_half_pair(point) && (flags & spool::kReplaceText) != 0);
  return append(out, bad ? kReplacementEscape : escape);
}

const char* find_backslash(const char* at, const char* end) {
  const void* found = std::memchr(at, '\\', static_cast<std::size_t>(end - at));
  return found == nullptr ? end : static_cast<const char*>(found);
}

// Backslashes stand only inside strings, so there is no need to know where strings begin and end.
char* write_mended(char* out, std::string_view json, unsigned flags) {
  const char* at = json.data();
  const char* const end = at + json.size();
  while (at != end) {
    const char* escape = find_backslash(at, end);
    out = write_plain(out, at, escape, flags);
    at = escape;
    if (at == end) break;
    if (is_unicode_escape(at, end)) {
      const EscapedPoint point = escaped_point(at, end);
      out = write_escape(out, {at, point.bytes}, point.code_point, flags);
      at += point.bytes;
    } else {
      out = append(out, {at, 2});
      at += 2;
    }
  }
  return out;
}

}  // namespace

char* write_json(char* out, std::string_view json, unsigned flags) {
  if ((flags & kMendings) != 0) return write_mended(out, json, flags);
  return append(out, json);
}

char* write_decoded(char* out, std::string_view literal, unsigned flags) {
  const char* at = literal.data();
  const char* const end = at + literal.size();
  while (at != end) {
    const char* escape = find_backslash(at, end);
    out = write_plain(out, at, escape, flags);
    at = escape;
    if (at == end) break;
    if (is_unicode_escape(at, end)) {
      const EscapedPoint point = escaped_point(at, end);
      out = write_decoded_point(out, point.code_point, flags);
      at += point.bytes;
    } else {
      *out++ = simple_escape(at[1]);
      at += 2;
    }
  }
  return out;
}

}  // namespace sluice::sink
