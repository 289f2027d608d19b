// Times as a plain reading by the grammar has them: what is taken, which moment it is, and that it
// comes back when it is written.
//
// Input: which of the functions, and the text.
#include <ctime>

#include <array>
#include <cmath>
#include <optional>
#include <regex>
#include <string>

#include "spool/timestamp.hpp"
#include "tests/fuzz/fuzz_target.hpp"

namespace sluice::fuzz {
namespace {

using spool::kAllTimes;
using spool::kEventTimes;
using spool::TimeRange;

__extension__ using Wide = __int128;

bool is_in(Wide us, const TimeRange& range) {
  return us >= range.first_us && us <= range.last_us;
}

// A decimal number's digits as a fraction of a million, rounded half to even.
std::int64_t rounded_fraction(std::string digits) {
  digits.resize(std::max<std::size_t>(digits.size(), 7), '0');
  const std::int64_t whole = std::stoll(digits.substr(0, 6));
  const std::string rest = digits.substr(6);
  const std::string half = "5" + std::string(rest.size() - 1, '0');
  return whole + (rest > half || (rest == half && whole % 2 == 1) ? 1 : 0);
}

// None if there is no such day. REQUIRES: digits.
std::optional<std::int64_t> seconds_of_day(const std::string& year, const std::string& month,
                                           const std::string& day) {
  std::tm date{};
  date.tm_year = std::stoi(year) - 1900;
  date.tm_mon = std::stoi(month) - 1;
  date.tm_mday = std::stoi(day);
  const std::tm asked = date;
  const std::int64_t seconds = timegm(&date);
  const bool is_one =
      date.tm_year == asked.tm_year && date.tm_mon == asked.tm_mon && date.tm_mday == asked.tm_mday;
  return is_one && year != "0000" ? std::optional(seconds) : std::nullopt;
}

std::optional<std::int64_t> plain_rfc3339(const std::string& text, const TimeRange& range,
                                          bool zone_required) {
  static const std::regex kGrammar(
      R"((\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?([Zz]|([+-])(\d\d):(\d\d))?)");
  std::smatch part;
  if (!std::regex_match(text, part, kGrammar)) return std::nullopt;
  if (zone_required && !part[8].matched) return std::nullopt;
  const auto day_s = seconds_of_day(part[1], part[2], part[3]);
  const int hour = std::stoi(part[4]);
  const int minute = std::stoi(part[5]);
  const int second = std::stoi(part[6]);
  if (!day_s || hour > 23 || minute > 59 || second > 60) return std::nullopt;
  std::int64_t zone_s = 0;
  if (part[9].matched) {
    const int zone_hour = std::stoi(part[10]);
    const int zone_minute = std::stoi(part[11]);
    if (zone_hour > 23 || zone_minute > 59) return std::nullopt;
    zone_s = (zone_hour * 3600 + zone_minute * 60) * (part[9] == "-" ? -1 : 1);
  }
  const std::int64_t us = (*day_s + hour * 3600 + minute * 60 + second - zone_s) * 1'000'000 +
                          (part[7].matched ? rounded_fraction(part[7]) : 0);
  return is_in(us, range) ? std::optional(us) : std::nullopt;
}

void check_written(std::int64_t us) {
  std::array<char, spool::kRfc3339Bytes> out;
  must(spool::write_rfc3339(out.data(), us) == out.data() + out.size(), "a time fills its room");
  must(spool::parse_rfc3339_us({out.data(), out.size()}, kAllTimes) == us,
       "a time that was written is read as the same moment");
  must(plain_rfc3339({out.data(), out.size()}, kAllTimes, true) == us,
       "a time that was written is what the grammar says");
}

void check_rfc3339(std::string_view text) {
  // The expression is recursive in the length of what it matches.
  if (text.size() > 200) return;
  for (const TimeRange& range : {kEventTimes, kAllTimes}) {
    for (const spool::Zone zone : {spool::Zone::required, spool::Zone::optional}) {
      const auto us = spool::parse_rfc3339_us(text, range, zone);
      must(us == plain_rfc3339(std::string(text), range, zone == spool::Zone::required),
           "RFC 3339 is read as its grammar says");
      if (us) check_written(*us);
    }
  }
}

// An integer of JSON; none for other numbers.
std::optional<Wide> plain_integer(const std::string& text) {
  static const std::regex kInteger("-?(0|[1-9][0-9]{0,30})");
  if (!std::regex_match(text, kInteger)) return std::nullopt;
  Wide value = 0;
  for (const char c : text) {
    if (c != '-') value = value * 10 + (c - '0');
  }
  return text.front() == '-' ? -value : value;
}

std::optional<std::int64_t> plain_epoch(Wide value, const TimeRange& range) {
  if (value < 0) return std::nullopt;
  Wide us = value;
  if (value < 100'000'000'000) {
    us = value * 1'000'000;
  } else if (value < 100'000'000'000'000) {
    us = value * 1'000;
  } else if (value >= 100'000'000'000'000'000) {
    us = value / 1'000 + (value % 1'000 > 500 ? 1 : 0);
    if (value % 1'000 == 500) us += us % 2;
  }
  return is_in(us, range) ? std::optional(static_cast<std::int64_t>(us)) : std::nullopt;
}

void check_epoch(std::string_view text) {
  const auto us = spool::parse_epoch_us(text);
  if (us) {
    must(is_in(*us, kEventTimes), "a moment lies in its range");
    check_written(*us);
  }
  if (text.size() > 200) return;
  const auto integer = plain_integer(std::string(text));
  if (integer) must(us == plain_epoch(*integer, kEventTimes), "an integer is read exactly");
}

void check_date(std::string_view text) {
  const auto days = spool::parse_date_days(text);
  static const std::regex kDate(R"((\d{4})-(\d\d)-(\d\d))");
  const std::string copy(text.substr(0, 20));
  std::smatch part;
  const auto plain = std::regex_match(copy, part, kDate) ? seconds_of_day(part[1], part[2], part[3])
                                                         : std::nullopt;
  must(days.has_value() == plain.has_value(), "a date is one that the calendar has");
  if (!days) return;
  must(std::int64_t{*days} * 86'400 == *plain, "a date is its day");
  std::array<char, spool::kDateBytes> out;
  must(spool::write_date(out.data(), *days) == out.data() + out.size() &&
           text == std::string_view(out.data(), out.size()),
       "a date is written as it was read");
}

// Any moment: eight bytes say which.
void check_moment(std::string_view bytes) {
  std::uint64_t any = 0;
  for (const char c : bytes.substr(0, 8)) any = any << 8 | static_cast<unsigned char>(c);
  const auto span = static_cast<std::uint64_t>(kAllTimes.last_us - kAllTimes.first_us) + 1;
  const std::int64_t us = kAllTimes.first_us + static_cast<std::int64_t>(any % span);
  check_written(us);
  const std::int64_t in_day = us - std::int64_t{spool::days_of_us(us)} * 86'400'000'000;
  must(in_day >= 0 && in_day < 86'400'000'000, "a moment lies in its day");
}

}  // namespace
}  // namespace sluice::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  sluice::fuzz::Input input(data, size);
  const unsigned which = input.byte();
  const sluice::fuzz::ExactBytes text(input.rest());
  switch (which % 4) {
    case 0:
      sluice::fuzz::check_rfc3339(text.view());
      break;
    case 1:
      sluice::fuzz::check_epoch(text.view());
      break;
    case 2:
      sluice::fuzz::check_date(text.view());
      break;
    default:
      sluice::fuzz::check_moment(text.view());
  }
  return 0;
}
