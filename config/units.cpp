// Number and unit, apart and together.
#include "config/units.hpp"

#include <array>
#include <charconv>
#include <limits>

namespace sluice::config {

namespace {

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

constexpr std::array<Unit, 9> kSizeUnits = {{{"TiB", 1ULL << 40},
                                             {"GiB", 1ULL << 30},
                                             {"MiB", 1ULL << 20},
                                             {"KiB", 1ULL << 10},
                                             {"B", 1},
                                             {"TB", 1'000'000'000'000},
                                             {"GB", 1'000'000'000},
                                             {"MB", 1'000'000},
                                             {"kB", 1'000}}};

constexpr std::array<Unit, 5> kDurationUnits = {
    {{"d", 86'400'000}, {"h", 3'600'000}, {"min", 60'000}, {"s", 1'000}, {"ms", 1}}};

std::string_view without_leading_spaces(std::string_view text) {
  const std::size_t begin = text.find_first_not_of(' ');
  return begin == std::string_view::npos ? std::string_view{} : text.substr(begin);
}

// The number and the rest of the text, without the spaces between them.
std::optional<std::uint64_t> leading_number(std::string_view text, std::string_view& rest) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) return std::nullopt;
  rest = without_leading_spaces(text.substr(static_cast<std::size_t>(end - text.data())));
  return number;
}

template <std::size_t N>
std::optional<std::uint64_t> in_units(std::string_view text, const std::array<Unit, N>& units,
                                      std::uint64_t max) {
  std::string_view name;
  const std::optional<std::uint64_t> number = leading_number(text, name);
  if (!number) return std::nullopt;
  for (const Unit& unit : units) {
    if (unit.name != name) continue;
    if (*number > max / unit.factor) return std::nullopt;
    return *number * unit.factor;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> parse_size(std::string_view text) {
  if (const auto bytes = parse_whole(text)) return bytes;
  return in_units(text, kSizeUnits, std::numeric_limits<std::uint64_t>::max());
}

std::string size_text(std::uint64_t bytes) {
  for (const Unit& unit : kSizeUnits) {
    if (bytes % unit.factor == 0 && bytes >= unit.factor)
      return std::to_string(bytes / unit.factor) + std::string(unit.name);
  }
  return "0B";
}

std::optional<std::chrono::milliseconds> parse_duration(std::string_view text) {
  if (text == "0") return std::chrono::milliseconds{0};
  const auto ms = in_units(text, kDurationUnits, std::numeric_limits<std::int64_t>::max());
  if (!ms) return std::nullopt;
  return std::chrono::milliseconds{static_cast<std::int64_t>(*ms)};
}

std::string duration_text(std::chrono::milliseconds duration) {
  const auto ms = static_cast<std::uint64_t>(duration.count());
  for (const Unit& unit : kDurationUnits) {
    if (ms % unit.factor == 0 && ms >= unit.factor)
      return std::to_string(ms / unit.factor) + std::string(unit.name);
  }
  return "0ms";
}

std::optional<std::uint32_t> parse_mode(std::string_view text) {
  if (text.size() < 3 || text.size() > 4) return std::nullopt;
  std::uint32_t mode = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), mode, 8);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return mode;
}

std::string mode_text(std::uint32_t mode) {
  std::string text(4, '0');
  for (std::size_t digit = 0; digit < 4; ++digit)
    text[3 - digit] = static_cast<char>('0' + ((mode >> (3 * digit)) & 7));
  return text;
}

std::optional<std::uint64_t> parse_whole(std::string_view text) {
  std::string_view rest = "?";
  const std::optional<std::uint64_t> number = leading_number(text, rest);
  if (!rest.empty() || (!text.empty() && text.back() == ' ')) return std::nullopt;
  return number;
}

}  // namespace sluice::config
