// Makes any bytes fit for a line of a log: no control characters, valid UTF-8, a bounded length.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sluice::daemon {

// Control characters (C0, DEL, C1), line and paragraph separators, marks that turn the direction of
// text, and bytes that are no UTF-8 become \n, \t, \xHH or \u{HHHH}; a longer text ends in "…".
[[nodiscard]] std::string printable(std::string_view text, std::size_t bytes_max = 1000);

// The inside of a JSON string that holds the printable text.
[[nodiscard]] std::string json_inside(std::string_view text, std::size_t bytes_max = 1000);

}  // namespace sluice::daemon
