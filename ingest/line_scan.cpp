#include "ingest/line_scan.hpp"

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace sluice::ingest {
namespace {

constexpr std::size_t kEscapeBytes = 6;  // \uXXXX

void scan_byte(unsigned char byte, LineScan& scan) {
  scan.has_nul |= byte == 0;
  scan.has_control |= byte < 0x20 && byte != 0 && byte != '\t' && byte != '\n' && byte != '\r';
  scan.has_backslash |= byte == '\\';
  scan.has_non_ascii |= byte >= 0x80;
}

// The code unit of a \uXXXX escape at `at`, if there is one.
std::optional<unsigned> code_unit_at(std::span<const char> text, std::size_t at) {
  if (text.size() - at < kEscapeBytes || text[at] != '\\' || text[at + 1] != 'u') return {};
  unsigned unit = 0;
  for (std::size_t i = at + 2; i < at + kEscapeBytes; ++i) {
    const char c = text[i];
    unsigned digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<unsigned>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<unsigned>(c - 'a' + 10);
    } else if (c >= 'A' && c <= 'F') {
      digit = static_cast<unsigned>(c - 'A' + 10);
    } else {
      return {};
    }
    unit = unit << 4 | digit;
  }
  return unit;
}

bool is_high_surrogate(unsigned unit) {
  return unit >= 0xd800 && unit <= 0xdbff;
}
bool is_low_surrogate(unsigned unit) {
  return unit >= 0xdc00 && unit <= 0xdfff;
}

}  // namespace

LineScan scan_line(std::string_view line) {
  LineScan scan;
  std::size_t at = 0;
#ifdef __SSE2__
  // SSE2 belongs to every x86-64. Bytes below 0x20 are rare enough (a tab between members) that
  // their kind is looked up one by one.
  __m128i any = _mm_setzero_si128();
  __m128i backslashes = _mm_setzero_si128();
  __m128i low = _mm_setzero_si128();
  const __m128i space = _mm_set1_epi8(0x1f);
  const __m128i backslash = _mm_set1_epi8('\\');
  for (; at + 16 <= line.size(); at += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(line.data() + at));
    any = _mm_or_si128(any, bytes);
    backslashes = _mm_or_si128(backslashes, _mm_cmpeq_epi8(bytes, backslash));
    low = _mm_or_si128(low, _mm_cmpeq_epi8(_mm_min_epu8(bytes, space), bytes));
  }
  scan.has_non_ascii = _mm_movemask_epi8(any) != 0;
  scan.has_backslash = _mm_movemask_epi8(backslashes) != 0;
  if (_mm_movemask_epi8(low) != 0) at = 0;
#endif
  for (; at < line.size(); ++at) scan_byte(static_cast<unsigned char>(line[at]), scan);
  return scan;
}

EscapeScan mend_escapes(std::span<char> text) {
  constexpr std::array<char, kEscapeBytes> kReplacement = {'\\', 'u', 'f', 'f', 'f', 'd'};
  EscapeScan scan;
  std::size_t at = 0;
  while (at < text.size()) {
    const void* found = std::memchr(text.data() + at, '\\', text.size() - at);
    if (found == nullptr) break;
    at = static_cast<std::size_t>(static_cast<const char*>(found) - text.data());
    const auto unit = code_unit_at(text, at);
    if (!unit) {
      at += 2;
      continue;
    }
    scan.has_nul |= *unit == 0;
    if (is_high_surrogate(*unit)) {
      const auto next = code_unit_at(text, at + kEscapeBytes);
      if (next && is_low_surrogate(*next)) {
        at += 2 * kEscapeBytes;
        continue;
      }
    }
    if (is_high_surrogate(*unit) || is_low_surrogate(*unit)) {
      scan.has_lone_surrogate = true;
      std::memcpy(text.data() + at, kReplacement.data(), kEscapeBytes);
    }
    at += kEscapeBytes;
  }
  return scan;
}

}  // namespace sluice::ingest
