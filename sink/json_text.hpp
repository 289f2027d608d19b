// Raw JSON on its way into Postgres: copied or decoded, and mended where Postgres could not store
// it.
#pragma once

#include <cstddef>
#include <string_view>

#include "spool/event_record.hpp"

namespace sluice::sink {

// The functions below write to `out` and return the end of what they wrote. `flags` are the
// record's spool::RecordFlags:
//
//   kReplaceNul    the escape `\u0000` becomes U+FFFD; the literal text `\\u0000` is left alone
//   kStripNul      the escape `\u0000` is left out
//   kReplaceText   each maximal bad part of a UTF-8 sequence (Unicode 15, section 3.9, table 3-8),
//   and
//                  each escape of half a surrogate pair, becomes U+FFFD
//
// U+FFFD is written as an escape where an escape stood in raw JSON, otherwise as EF BF BD.
//
// REQUIRES: the text was found to be valid JSON but for its UTF-8; `out` has room for
// mended_bytes_max(text.size(), flags) bytes.

// The RecordFlags that the functions below look at.
inline constexpr unsigned kMendings = spool::kReplaceNul | spool::kStripNul | spool::kReplaceText;

// One bad byte becomes three; nothing else grows.
[[nodiscard]] constexpr std::size_t mended_bytes_max(std::size_t bytes, unsigned flags) {
  return (flags & spool::kReplaceText) != 0 ? 3 * bytes : bytes;
}

// Raw JSON as raw JSON. With nothing to mend it is a memcpy.
[[nodiscard]] char* write_json(char* out, std::string_view json, unsigned flags);

// A string literal, given without its quotes, as the UTF-8 text that it stands for. A NUL without a
// flag for it becomes U+FFFD too: Postgres has no such text.
[[nodiscard]] char* write_decoded(char* out, std::string_view literal, unsigned flags);

}  // namespace sluice::sink
