#include "ingest/timestamp.hpp"

#include <charconv>
#include <chrono>
#include <cmath>

namespace sluice::ingest {
namespace {

constexpr std::int64_t kUsPerSecond = 1'000'000;
// 2200-12-31T23:59:59.999999Z
constexpr std::int64_t kLatestUs = 7'289'654'400 * kUsPerSecond - 1;

std::optional<std::int64_t> in_range(std::int64_t us) {
  if (us < 0 || us > kLatestUs) return std::nullopt;
  return us;
}

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

// A cursor over the text; every read_…() moves it, or sets `bad` where the text does not fit.
struct Reader {
  std::string_view text;
  std::size_t at = 0;
  bool bad = false;

  [[nodiscard]] bool at_end() const { return at == text.size(); }
  [[nodiscard]] char peek() const { return at_end() ? '\0' : text[at]; }

  unsigned read_digits(std::size_t count) {
    unsigned value = 0;
    for (std::size_t i = 0; i < count; ++i) {
      if (!is_digit(peek())) {
        bad = true;
        return 0;
      }
      value = value * 10 + static_cast<unsigned>(text[at++] - '0');
    }
    return value;
  }

  void read_one_of(std::string_view allowed) {
    if (at_end() || allowed.find(text[at]) == std::string_view::npos) {
      bad = true;
    } else {
      ++at;
    }
  }

  // The digits of a fraction of 10^6 units, rounded half to even: 0..1,000,000.
  std::int64_t read_fraction() {
    std::int64_t value = 0;
    int digits = 0;
    int next = 0;               // the first digit that is cut off
    bool more_follows = false;  // and whether any after it is not zero
    for (; is_digit(peek()); ++at, ++digits) {
      const int digit = text[at] - '0';
      if (digits < 6) {
        value = value * 10 + digit;
      } else if (digits == 6) {
        next = digit;
      } else {
        more_follows = more_follows || digit != 0;
      }
    }
    bad = bad || digits == 0;
    for (int i = digits; i < 6; ++i) value *= 10;
    const bool up = next > 5 || (next == 5 && (more_follows || value % 2 == 1));
    return value + (up ? 1 : 0);
  }

  // Seconds east of UTC.
  std::int64_t read_zone() {
    const char sign = peek();
    if (sign == 'Z' || sign == 'z') {
      ++at;
      return 0;
    }
    read_one_of("+-");
    const unsigned hours = read_digits(2);
    read_one_of(":");
    const unsigned minutes = read_digits(2);
    bad = bad || hours > 23 || minutes > 59;
    const auto seconds = static_cast<std::int64_t>(hours * 3600 + minutes * 60);
    return sign == '-' ? -seconds : seconds;
  }
};

// Divides by 10 ** `digits`, half to even.
std::int64_t divided_half_even(std::int64_t value, int digits) {
  std::int64_t divisor = 1;
  for (int i = 0; i < digits; ++i) divisor *= 10;
  const std::int64_t quotient = value / divisor;
  const std::int64_t rest = value % divisor;
  const bool up = rest * 2 > divisor || (rest * 2 == divisor && quotient % 2 == 1);
  return quotient + (up ? 1 : 0);
}

std::optional<std::int64_t> integer_epoch_us(std::int64_t value) {
  if (value < 0) return std::nullopt;
  if (value < 100'000'000'000) return in_range(value * kUsPerSecond);
  if (value < 100'000'000'000'000) return in_range(value * 1000);
  if (value < 100'000'000'000'000'000) return in_range(value);
  return in_range(divided_half_even(value, 3));
}

// With a fraction or an exponent: by double, whose 53 bits hold a microsecond until the year 2255.
std::optional<std::int64_t> real_epoch_us(std::string_view number) {
  double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (error != std::errc() || end != number.data() + number.size()) return std::nullopt;
  const double us = value < 1e11   ? value * 1e6
                    : value < 1e14 ? value * 1e3
                    : value < 1e17 ? value
                                   : value / 1e3;
  if (!(us >= 0) || us > static_cast<double>(kLatestUs)) return std::nullopt;
  return in_range(std::llrint(us));
}

}  // namespace

std::optional<std::int64_t> parse_rfc3339_us(std::string_view text) {
  Reader reader{text};
  const unsigned year = reader.read_digits(4);
  reader.read_one_of("-");
  const unsigned month = reader.read_digits(2);
  reader.read_one_of("-");
  const unsigned day = reader.read_digits(2);
  reader.read_one_of("Tt ");
  const unsigned hour = reader.read_digits(2);
  reader.read_one_of(":");
  const unsigned minute = reader.read_digits(2);
  reader.read_one_of(":");
  const unsigned second = reader.read_digits(2);
  std::int64_t fraction_us = 0;
  if (reader.peek() == '.') {
    ++reader.at;
    fraction_us = reader.read_fraction();
  }
  const std::int64_t zone_s = reader.read_zone();
  if (reader.bad || !reader.at_end()) return std::nullopt;

  using namespace std::chrono;
  const year_month_day date{std::chrono::year(static_cast<int>(year)), std::chrono::month(month),
                            std::chrono::day(day)};
  if (!date.ok() || hour > 23 || minute > 59 || second > 60) return std::nullopt;
  const std::int64_t days = sys_days(date).time_since_epoch().count();
  const std::int64_t seconds = days * 86'400 + hour * 3600 + minute * 60 + second - zone_s;
  return in_range(seconds * kUsPerSecond + fraction_us);
}

std::optional<std::int64_t> parse_epoch_us(std::string_view number) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (error == std::errc() && end == number.data() + number.size()) return integer_epoch_us(value);
  return real_epoch_us(number);
}

}  // namespace sluice::ingest
