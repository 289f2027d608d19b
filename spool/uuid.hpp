// A UUID as 16 bytes in network order: parsed from and written as text.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::spool {

struct Uuid {
  std::array<std::uint8_t, 16> bytes{};

  auto operator<=>(const Uuid&) const = default;

  // A random UUID (version 4, RFC 9562 section 5.4) from the system's entropy.
  [[nodiscard]] static Uuid random();
  // The 36-character form with hyphens, in either case; nothing else.
  [[nodiscard]] static std::optional<Uuid> parse(std::string_view text);
  // The 26-character ULID form (Crockford base 32, in either case), as the same 128 bits.
  [[nodiscard]] static std::optional<Uuid> parse_ulid(std::string_view text);
  // Lower case, with hyphens.
  [[nodiscard]] std::string text() const;
};

}  // namespace sluice::spool
