// Why a line was refused: the codes that producers, logs and metrics see.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace sluice::ingest {

enum class Refusal {
  too_long,
  bad_byte,  // a raw NUL
  bad_utf8,  // invalid UTF-8 or a lone surrogate, under text = "reject"
  nul,       // the escape \u0000, under nul = "reject"
  syntax,
  not_object,
  trailing,  // a second document or junk after the object
  too_deep,
  limits,         // too many keys, or too long a key
  duplicate_key,  // under dup_key = "reject"
  number_range,
  schema,    // a required field is missing
  no_route,  // its type is that of no route
  misfit,    // a known field of the wrong type, under misfit = "reject"
  dedupe_key,
  full,  // there was no room for it, and its listener does not let producers wait
};
inline constexpr std::size_t kRefusalCount = 16;

[[nodiscard]] constexpr std::string_view refusal_code(Refusal refusal) {
  constexpr std::array<std::string_view, kRefusalCount> kCodes = {
      "too_long", "bad_byte", "bad_utf8",   "nul",           "syntax",       "not_object",
      "trailing", "too_deep", "limits",     "duplicate_key", "number_range", "schema",
      "no_route", "misfit",   "dedupe_key", "full"};
  return kCodes[static_cast<std::size_t>(refusal)];
}

// Whether the same line, sent again later, may be taken.
[[nodiscard]] constexpr bool may_pass_later(Refusal refusal) {
  return refusal == Refusal::full;
}

}  // namespace sluice::ingest
