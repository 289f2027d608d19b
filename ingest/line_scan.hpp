// What a look at a line's bytes tells before it is parsed, and the mending of its escapes.
#pragma once

#include <span>
#include <string_view>

namespace sluice::ingest {

struct LineScan {
  bool has_nul = false;      // a raw NUL byte
  bool has_control = false;  // 0x01..0x1f other than tab, LF and CR: never legal in JSON
  bool has_backslash = false;
  bool has_non_ascii = false;
};

[[nodiscard]] LineScan scan_line(std::string_view line);

struct EscapeScan {
  bool has_nul = false;             // the escape \u0000
  bool has_lone_surrogate = false;  // \ud800..\udfff not in a pair
};

// Looks at each escape of `text` and overwrites lone surrogates with \ufffd, which is as long, so
// that all offsets stay. Escapes that are not JSON are left for the parser to refuse.
[[nodiscard]] EscapeScan mend_escapes(std::span<char> text);

}  // namespace sluice::ingest
