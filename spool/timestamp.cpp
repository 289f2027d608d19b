#include "spool/timestamp.hpp"

#include <charconv>
#include <chrono>
#include <cmath>

namespace sluice::spool {
namespace {

constexpr std::int64_t kUsPerSecond = 1'000'000;
constexpr std::int64_t kUsPerDay = 86'400 * kUsPerSecond;

std::optional<std::int64_t> in_range(std::int64_t us, const TimeRange& range) {
  if (us < range.first_us || us > range.last_us) return std::nullopt;
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

std::optional<std::int64_t> integer_epoch_us(std::int64_t value, const TimeRange& range) {
  if (value < 0) return std::nullopt;
  if (value < 100'000'000'000) return in_range(value * kUsPerSecond, range);
  if (value < 100'000'000'000'000) return in_range(value * 1000, range);
  if (value < 100'000'000'000'000'000) return in_range(value, range);
  return in_range(divided_half_even(value, 3), range);
}

// With a fraction or an exponent: by double, whose 53 bits hold a microsecond until the year 2255.
std::optional<std::int64_t> real_epoch_us(std::string_view number, const TimeRange& range) {
  double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (error != std::errc() || end != number.data() + number.size()) return std::nullopt;
  const double us = value < 1e11   ? value * 1e6
                    : value < 1e14 ? value * 1e3
                    : value < 1e17 ? value
                                   : value / 1e3;
  if (!(us >= 0) || us > static_cast<double>(range.last_us)) return std::nullopt;
  return in_range(std::llrint(us), range);
}

// "2026-01-31" at the reader's place; `bad` if there is no such day.
std::int64_t read_date_days(Reader& reader) {
  const unsigned year = reader.read_digits(4);
  reader.read_one_of("-");
  const unsigned month = reader.read_digits(2);
  reader.read_one_of("-");
  const unsigned day = reader.read_digits(2);
  if (reader.bad) return 0;
  using namespace std::chrono;
  const year_month_day date{std::chrono::year(static_cast<int>(year)), std::chrono::month(month),
                            std::chrono::day(day)};
  // Postgres knows no year 0.
  reader.bad = !date.ok() || year == 0;
  return reader.bad ? 0 : sys_days(date).time_since_epoch().count();
}

char* write_digits(char* out, unsigned value, int digits) {
  for (int i = digits - 1; i >= 0; --i, value /= 10) out[i] = static_cast<char>('0' + value % 10);
  return out + digits;
}

}  // namespace

std::optional<std::int64_t> parse_rfc3339_us(std::string_view text, const TimeRange& range,
                                             Zone zone) {
  Reader reader{text};
  const std::int64_t days = read_date_days(reader);
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
  const bool none = zone == Zone::optional && reader.at_end();
  const std::int64_t zone_s = none ? 0 : reader.read_zone();
  if (reader.bad || !reader.at_end()) return std::nullopt;
  if (hour > 23 || minute > 59 || second > 60) return std::nullopt;
  const std::int64_t seconds = days * 86'400 + hour * 3600 + minute * 60 + second - zone_s;
  return in_range(seconds * kUsPerSecond + fraction_us, range);
}

std::optional<std::int64_t> parse_epoch_us(std::string_view number, const TimeRange& range) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (error == std::errc() && end == number.data() + number.size()) {
    return integer_epoch_us(value, range);
  }
  return real_epoch_us(number, range);
}

std::optional<std::int32_t> parse_date_days(std::string_view text) {
  Reader reader{text};
  const std::int64_t days = read_date_days(reader);
  if (reader.bad || !reader.at_end()) return std::nullopt;
  return static_cast<std::int32_t>(days);
}

std::int32_t days_of_us(std::int64_t us) {
  const std::int64_t days = us / kUsPerDay - (us % kUsPerDay < 0 ? 1 : 0);
  return static_cast<std::int32_t>(days);
}

char* write_date(char* out, std::int32_t days) {
  const std::chrono::year_month_day date{std::chrono::sys_days(std::chrono::days(days))};
  out = write_digits(out, static_cast<unsigned>(static_cast<int>(date.year())), 4);
  *out++ = '-';
  out = write_digits(out, static_cast<unsigned>(date.month()), 2);
  *out++ = '-';
  return write_digits(out, static_cast<unsigned>(date.day()), 2);
}

char* write_rfc3339(char* out, std::int64_t us) {
  const std::int32_t days = days_of_us(us);
  const std::int64_t of_day = us - days * kUsPerDay;
  const auto seconds = static_cast<unsigned>(of_day / kUsPerSecond);
  out = write_date(out, days);
  *out++ = 'T';
  out = write_digits(out, seconds / 3600, 2);
  *out++ = ':';
  out = write_digits(out, seconds / 60 % 60, 2);
  *out++ = ':';
  out = write_digits(out, seconds % 60, 2);
  *out++ = '.';
  out = write_digits(out, static_cast<unsigned>(of_day % kUsPerSecond), 6);
  *out++ = 'Z';
  return out;
}

}  // namespace sluice::spool
