// Sizes, durations and file modes as people write them ("64MiB", "20ms", "0660"), and back.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::config {

// A whole number and a unit: B, KiB, MiB, GiB, TiB, or the decimal kB, MB, GB, TB. A bare number is
// bytes. None if the text is anything else or the size does not fit.
[[nodiscard]] std::optional<std::uint64_t> parse_size(std::string_view text);
// With the largest binary unit that divides it: 65536 is "64KiB".
[[nodiscard]] std::string size_text(std::uint64_t bytes);

// A whole number and a unit: ms, s, min, h, d. A bare number is refused, except 0.
[[nodiscard]] std::optional<std::chrono::milliseconds> parse_duration(std::string_view text);
[[nodiscard]] std::string duration_text(std::chrono::milliseconds duration);

// Three or four octal digits: "660", "0660".
[[nodiscard]] std::optional<std::uint32_t> parse_mode(std::string_view text);
// Four octal digits.
[[nodiscard]] std::string mode_text(std::uint32_t mode);

// Decimal digits only.
[[nodiscard]] std::optional<std::uint64_t> parse_whole(std::string_view text);

}  // namespace sluice::config
