// One line of an aside file: a record as a JSON object, and what is read back of it.
//
//   {"crc32c":"xxxxxxxx","state":"dead"|"waiting"|"held"|"rejected","segment":"…","index":N,
//    "time":"…Z","received":"…Z","id":"…","uid":N|null,"route":"…","type":"…","table":"…",
//    "sqlstate":"…","message":"…","column":"…","line":"…"}\n
//
// Lines of the first version lack received, id, route and type. The fields stand in this order and
// without spaces, so that who reads it back needs no JSON parser and only the line's head. The
// checksum is of all that follows its own value's quote, up to the newline. `line` is the
// producer's, byte for byte once the escapes are undone; bytes that are no UTF-8 stay as they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "spool/aside.hpp"

namespace sluice::spool {

// {"crc32c":"xxxxxxxx"
inline constexpr std::size_t kAsideChecksumBytes = 20;
// The producer's line begins before this, unless the server's message is a very long one.
inline constexpr std::size_t kAsideHeadBytes = 8 * 1024;

[[nodiscard]] std::string aside_line(const AsideRecord& record);

// The checksum that the line carries; none if its first bytes are not those of a record.
[[nodiscard]] std::optional<std::uint32_t> aside_checksum(std::string_view head);

// From a line's first bytes, but for the producer's line. None if they are not those of a record;
// where they are cut off, the texts of the reason stay empty.
[[nodiscard]] std::optional<AsideText> aside_head(std::string_view head);

// From a whole line, with or without its newline. None if it is not as it was written.
[[nodiscard]] std::optional<AsideText> aside_text(std::string_view line);

}  // namespace sluice::spool
