// Reads times as JSON has them, RFC 3339 text or a number since the epoch, as microseconds since
// the epoch, and writes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace sluice::spool {

// The moments that are let through, both ends included.
struct TimeRange {
  std::int64_t first_us;
  std::int64_t last_us;
};

// The years 1970 to 2200: when an event can have happened.
inline constexpr TimeRange kEventTimes{0, 7'289'654'400'000'000 - 1};
// The years 1 to 9999: all that RFC 3339 can write and Postgres can store.
inline constexpr TimeRange kAllTimes{-62'135'596'800'000'000, 253'402'300'800'000'000 - 1};

enum class Zone {
  required,
  optional,  // without one it is UTC
};

// RFC 3339; `T` may be a space, letters may be lower case. A leap second counts as the next second;
// digits past the microsecond are rounded half to even. None if it cannot be read or lies outside
// the range.
[[nodiscard]] std::optional<std::int64_t> parse_rfc3339_us(std::string_view text,
                                                           const TimeRange& range = kEventTimes,
                                                           Zone zone = Zone::required);

// A JSON number since the epoch whose size tells its unit: below 1e11 seconds, below 1e14
// milliseconds, below 1e17 microseconds, else nanoseconds. Rounded as above; none below 0.
[[nodiscard]] std::optional<std::int64_t> parse_epoch_us(std::string_view number,
                                                         const TimeRange& range = kEventTimes);

// "2026-01-31" as days since the epoch. None if there is no such day, or none in kAllTimes.
[[nodiscard]] std::optional<std::int32_t> parse_date_days(std::string_view text);
// The day, by UTC, that the moment is in.
[[nodiscard]] std::int32_t days_of_us(std::int64_t us);

inline constexpr std::size_t kDateBytes = 10;
inline constexpr std::size_t kRfc3339Bytes = 27;
// "2026-01-31" and "2026-01-31T00:00:00.000000Z", without an end; they return the end.
// REQUIRES: the moment is in kAllTimes; `out` has room for kDateBytes or kRfc3339Bytes.
char* write_date(char* out, std::int32_t days);
char* write_rfc3339(char* out, std::int64_t us);

}  // namespace sluice::spool
