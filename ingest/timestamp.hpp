// Reads an event's time: RFC 3339 text or a number since the epoch, as microseconds since the
// epoch.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace sluice::ingest {

// RFC 3339 with a zone; `T` may be a space, letters may be lower case. A leap second counts as the
// next second; digits past the microsecond are rounded half to even. None if it cannot be read or
// lies outside the years 1970 to 2200.
[[nodiscard]] std::optional<std::int64_t> parse_rfc3339_us(std::string_view text);

// A JSON number since the epoch whose size tells its unit: below 1e11 seconds, below 1e14
// milliseconds, below 1e17 microseconds, else nanoseconds. The same range and rounding.
[[nodiscard]] std::optional<std::int64_t> parse_epoch_us(std::string_view number);

}  // namespace sluice::ingest
