#include "sink/numeric_binary.hpp"

#include <algorithm>
#include <cstdint>

#include "sink/big_endian.hpp"

namespace sluice::sink {
namespace {

constexpr std::uint16_t kNegative = 0x4000;
constexpr std::int64_t kScaleMax = 0x3fff;   // 14 bits
constexpr std::int64_t kWeightMax = 0x7fff;  // 131,072 digits before the point
// Any exponent beyond this is out of range whatever its mantissa is (a line has at most 16 MiB).
constexpr std::int64_t kExponentMax = 100'000'000;

// A decimal number as its significant digits and the place of its point.
struct Decimal {
  std::string_view digits;   // from the first digit that is not 0 on; may hold the point
  std::int64_t digit_count;  // without the point and without zeros at the end; 0: the number is 0
  std::int64_t point;        // digits before the decimal point, seen from the first significant one
  std::int64_t scale;        // decimals as written, the exponent applied
  bool negative;
};

std::int64_t parse_exponent(std::string_view text) {
  const bool negative = text.starts_with('-');
  if (negative || text.starts_with('+')) text.remove_prefix(1);
  std::int64_t exponent = 0;
  for (const char c : text) exponent = std::min(exponent * 10 + (c - '0'), kExponentMax);
  return negative ? -exponent : exponent;
}

Decimal read_decimal(std::string_view number) {
  Decimal decimal{};
  decimal.negative = number.starts_with('-');
  if (decimal.negative) number.remove_prefix(1);

  const std::size_t exponent_at = std::min(number.find_first_of("eE"), number.size());
  const std::string_view mantissa = number.substr(0, exponent_at);
  const std::int64_t exponent =
      exponent_at == number.size() ? 0 : parse_exponent(number.substr(exponent_at + 1));

  const std::size_t point_at = std::min(mantissa.find('.'), mantissa.size());
  const std::size_t decimals = mantissa.size() - std::min(point_at + 1, mantissa.size());
  decimal.scale = std::max<std::int64_t>(static_cast<std::int64_t>(decimals) - exponent, 0);

  const std::size_t first = mantissa.find_first_not_of("0.");
  if (first == std::string_view::npos) return decimal;
  const std::size_t last = mantissa.find_last_not_of("0.");
  decimal.digits = mantissa.substr(first, last - first + 1);
  const bool has_point = first < point_at && point_at < last;
  decimal.digit_count = static_cast<std::int64_t>(decimal.digits.size()) - (has_point ? 1 : 0);
  // A first digit behind the point stands one place less far from it than its offset says.
  decimal.point = static_cast<std::int64_t>(point_at) - static_cast<std::int64_t>(first) +
                  (first > point_at ? 1 : 0) + exponent;
  return decimal;
}

// Writes the base-10000 digits, of which the first takes `first_digits` decimal ones.
char* write_digits(char* out, const Decimal& decimal, std::int64_t first_digits) {
  std::uint16_t digit = 0;
  std::int64_t wanted = first_digits;
  for (const char c : decimal.digits) {
    if (c == '.') continue;
    digit = static_cast<std::uint16_t>(digit * 10 + (c - '0'));
    if (--wanted != 0) continue;
    out = put_u16(out, digit);
    digit = 0;
    wanted = 4;
  }
  if (wanted == 4) return out;
  for (; wanted != 0; --wanted) digit = static_cast<std::uint16_t>(digit * 10);
  return put_u16(out, digit);
}

}  // namespace

char* write_numeric(char* out, std::string_view number) {
  const Decimal decimal = read_decimal(number);
  if (decimal.scale > kScaleMax) return nullptr;
  const auto scale = static_cast<std::uint16_t>(decimal.scale);
  if (decimal.digit_count == 0) {
    out = put_u16(put_u16(out, 0), 0);
    return put_u16(put_u16(out, 0), scale);
  }

  // The power of 10,000 that the first base-10000 digit stands for, rounded towards minus infinity.
  const std::int64_t weight =
      decimal.point > 0 ? (decimal.point - 1) / 4 : -(-decimal.point / 4) - 1;
  if (weight > kWeightMax) return nullptr;
  const std::int64_t first_digits = decimal.point - 4 * weight;  // 1 to 4
  const std::int64_t digits = (4 - first_digits + decimal.digit_count + 3) / 4;

  out = put_u16(out, static_cast<std::uint16_t>(digits));
  out = put_u16(out, static_cast<std::uint16_t>(weight));
  out = put_u16(out, decimal.negative ? kNegative : std::uint16_t{0});
  out = put_u16(out, scale);
  return write_digits(out, decimal, first_digits);
}

bool is_below_one(std::string_view number) {
  const Decimal decimal = read_decimal(number);
  return decimal.digit_count != 0 && decimal.point <= 0;
}

}  // namespace sluice::sink
