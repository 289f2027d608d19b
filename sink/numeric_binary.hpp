// A JSON number's text as the value that Postgres's numeric takes in binary form, digit for digit.
#pragma once

#include <cstddef>
#include <string_view>

namespace sluice::sink {

// The room that write_numeric() may need for a number of so many characters.
[[nodiscard]] constexpr std::size_t numeric_bytes_max(std::size_t characters) {
  return 8 + 2 * (characters / 4 + 3);
}

// Writes ndigits, weight, sign, dscale and the base-10000 digits (numeric_recv in Postgres's
// src/backend/utils/adt/numeric.c), as numeric_in would read the same text: 1.50 keeps its two
// decimals, -0 is 0. Returns the end of what was written, or nullptr if the number is beyond what a
// numeric can hold.
// REQUIRES: `number` is a JSON number; `out` has room for numeric_bytes_max(number.size()).
[[nodiscard]] char* write_numeric(char* out, std::string_view number);

// Whether a number other than 0 is smaller than 1, its sign aside. REQUIRES: as above.
[[nodiscard]] bool is_below_one(std::string_view number);

}  // namespace sluice::sink
