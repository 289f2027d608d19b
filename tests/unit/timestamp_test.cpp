// An event's time, as text and as a number.
#include "spool/timestamp.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <vector>

using namespace sluice::spool;

namespace {

constexpr std::int64_t kNewYear2026Us = 1'767'225'600'000'000;

struct Case {
  const char* text;
  std::int64_t us;
};

}  // namespace

TEST_CASE("timestamp: RFC 3339 text is read to the microsecond") {
  const std::vector<Case> cases = {
      {"1970-01-01T00:00:00Z", 0},
      {"2026-01-01T00:00:00Z", kNewYear2026Us},
      {"2026-01-01T00:00:00.123Z", kNewYear2026Us + 123'000},
      {"2026-01-01T00:00:00.000001Z", kNewYear2026Us + 1},
      {"2026-01-01t00:00:00z", kNewYear2026Us},
      {"2026-01-01 00:00:00Z", kNewYear2026Us},
      {"2026-01-01T00:00:00+00:00", kNewYear2026Us},
      {"2026-01-01T00:00:00-00:00", kNewYear2026Us},
      {"2026-01-01T02:00:00+02:00", kNewYear2026Us},
      {"2025-12-31T18:30:00-05:30", kNewYear2026Us},
      {"2025-12-31T00:01:00-23:59", kNewYear2026Us},
      {"2000-02-29T00:00:00Z", 951'782'400'000'000},
      {"2200-12-31T23:59:59.999999Z", 7'289'654'399'999'999},
  };
  for (const Case& c : cases) {
    CAPTURE(c.text);
    CHECK(parse_rfc3339_us(c.text) == c.us);
  }
}

TEST_CASE("timestamp: digits past the microsecond are rounded half to even") {
  const std::vector<Case> cases = {
      {"2026-01-01T00:00:00.0000014Z", 1},         {"2026-01-01T00:00:00.0000015Z", 2},
      {"2026-01-01T00:00:00.0000025Z", 2},         {"2026-01-01T00:00:00.00000250000Z", 2},
      {"2026-01-01T00:00:00.000002500001Z", 3},    {"2026-01-01T00:00:00.0000016Z", 2},
      {"2026-01-01T00:00:00.123456789Z", 123'457}, {"2026-01-01T00:00:00.9999995Z", 1'000'000},
      {"2026-01-01T00:00:00.9999994Z", 999'999},
  };
  for (const Case& c : cases) {
    CAPTURE(c.text);
    CHECK(parse_rfc3339_us(c.text) == kNewYear2026Us + c.us);
  }
}

TEST_CASE("timestamp: a leap second is the next second") {
  CHECK(parse_rfc3339_us("2016-12-31T23:59:60Z") == parse_rfc3339_us("2017-01-01T00:00:00Z"));
  CHECK(parse_rfc3339_us("2016-12-31T23:59:60.5Z") == parse_rfc3339_us("2017-01-01T00:00:00.5Z"));
  CHECK(parse_rfc3339_us("2017-01-01T00:59:60+01:00") == parse_rfc3339_us("2017-01-01T00:00:00Z"));
}

TEST_CASE("timestamp: what is no RFC 3339 with a zone, or out of range, is not read") {
  const std::string text =
      GENERATE("", "now", "today", "infinity", "-infinity", "epoch", "2026-01-01",
               "2026-01-01T00:00:00", "2026-01-01T00:00Z", "2026-1-01T00:00:00Z",
               "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00,1Z", "2026-01-01T00:00:00+99:99",
               "2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00+00:60", "2026-01-01T00:00:00+0000",
               "2026-01-01T00:00:00+00", "2026-01-01T00:00:00 Z", " 2026-01-01T00:00:00Z",
               "2026-01-01T00:00:00Z ", "2026-01-01T00:00:00ZZ", "2026-02-30T00:00:00Z",
               "2026-02-29T00:00:00Z", "2026-00-01T00:00:00Z", "2026-13-01T00:00:00Z",
               "2026-01-00T00:00:00Z", "2026-01-32T00:00:00Z", "2026-01-01T24:00:00Z",
               "2026-01-01T00:60:00Z", "2026-01-01T00:00:61Z", "0000-01-01T00:00:00Z",
               "1969-12-31T23:59:59.999999Z", "1970-01-01T00:00:00+00:01", "2201-01-01T00:00:00Z",
               "2200-12-31T23:59:59.9999999Z", "2200-12-31T23:59:60Z", "300000-01-01T00:00:00Z",
               "+2026-01-01T00:00:00Z", "-4714-01-01T00:00:00Z", "4714-01-01T00:00:00Z BC",
               "2026-01-01T00:00:00\xE2\x88\x92"
               "05:00");
  CAPTURE(text);
  CHECK_FALSE(parse_rfc3339_us(text));
}

TEST_CASE("timestamp: every beginning of a good text is read as nothing") {
  const std::string text = "2026-01-01T00:00:00.5+02:00";
  REQUIRE(parse_rfc3339_us(text));
  for (std::size_t size = 0; size < text.size(); ++size) {
    CAPTURE(size);
    CHECK_FALSE(parse_rfc3339_us(std::string_view(text).substr(0, size)));
  }
}

TEST_CASE("timestamp: a number's size tells its unit") {
  const std::vector<Case> cases = {
      {"0", 0},
      {"-0", 0},
      {"1767225600", kNewYear2026Us},
      {"1767225600000", kNewYear2026Us},
      {"1767225600000000", kNewYear2026Us},
      {"1767225600000000000", kNewYear2026Us},
      {"1767225600.5", kNewYear2026Us + 500'000},
      {"1767225600.123456", kNewYear2026Us + 123'456},
      {"1767225600123.5", kNewYear2026Us + 123'500},
      {"1767225600000001.5", kNewYear2026Us + 2},
      {"1.7672256e9", kNewYear2026Us},
      {"1.7672256E+12", kNewYear2026Us},
      {"100000000000", 100'000'000'000'000},       // 1e11: milliseconds, 1973
      {"100000000000000", 100'000'000'000'000},    // 1e14: microseconds, 1973
      {"100000000000000000", 100'000'000'000'000}  // 1e17: nanoseconds, 1973
  };
  for (const Case& c : cases) {
    CAPTURE(c.text);
    CHECK(parse_epoch_us(c.text) == c.us);
  }
}

TEST_CASE("timestamp: nanoseconds are rounded half to even") {
  CHECK(parse_epoch_us("1767225600000000500") == kNewYear2026Us);
  CHECK(parse_epoch_us("1767225600000001500") == kNewYear2026Us + 2);
  CHECK(parse_epoch_us("1767225600000001501") == kNewYear2026Us + 2);
  CHECK(parse_epoch_us("1767225600000001499") == kNewYear2026Us + 1);
}

TEST_CASE("timestamp: a number before 1970 or after 2200 is not read") {
  const std::string number = GENERATE(
      "-1", "-0.5", "7289654400", "99999999999", "99999999999999", "7289654400000",
      "9223372036854775807", "18446744073709551616", "1e30", "1e308", "9e99999", "1e-400x", "");
  CAPTURE(number);
  CHECK_FALSE(parse_epoch_us(number));
  CHECK(parse_epoch_us("7289654399") == 7'289'654'399'000'000);
}

TEST_CASE("timestamp: a wider range lets earlier and later years through") {
  CHECK(parse_rfc3339_us("0001-01-01T00:00:00Z", kAllTimes) == kAllTimes.first_us);
  CHECK(parse_rfc3339_us("9999-12-31T23:59:59.999999Z", kAllTimes) == kAllTimes.last_us);
  CHECK(parse_rfc3339_us("1969-12-31T23:59:59.9Z", kAllTimes) == -100'000);
  CHECK_FALSE(parse_rfc3339_us("0000-12-31T00:00:00Z", kAllTimes));
  CHECK_FALSE(parse_rfc3339_us("0001-01-01T00:00:00+01:00", kAllTimes));
  CHECK_FALSE(parse_rfc3339_us("9999-12-31T23:59:60Z", kAllTimes));
  CHECK(parse_epoch_us("7289654400", kAllTimes) == 7'289'654'400'000'000);
  CHECK_FALSE(parse_epoch_us("999999999999999999", {0, 1}));
}

TEST_CASE("timestamp: where no zone is needed, none means UTC") {
  CHECK(parse_rfc3339_us("2026-01-01T00:00:00", kAllTimes, Zone::optional) == kNewYear2026Us);
  CHECK(parse_rfc3339_us("2026-01-01T01:00:00+01:00", kAllTimes, Zone::optional) == kNewYear2026Us);
  CHECK_FALSE(parse_rfc3339_us("2026-01-01T00:00", kAllTimes, Zone::optional));
}

TEST_CASE("timestamp: days are read and written") {
  CHECK(parse_date_days("1970-01-01") == 0);
  CHECK(parse_date_days("1969-12-31") == -1);
  CHECK(parse_date_days("2000-02-29") == 11'016);
  for (const char* bad : {"2026-02-30", "0000-01-01", "2026-1-1", "2026-01-01T", "", "now"}) {
    CHECK_FALSE(parse_date_days(bad));
  }
  CHECK(days_of_us(-1) == -1);
  CHECK(days_of_us(0) == 0);
  CHECK(days_of_us(86'400'000'000) == 1);
}

TEST_CASE("timestamp: what is written is read as the same moment") {
  for (const std::int64_t us : {kAllTimes.first_us, std::int64_t{-1}, std::int64_t{0},
                                kNewYear2026Us + 123'456, kAllTimes.last_us}) {
    std::string text(kRfc3339Bytes, '?');
    CHECK(write_rfc3339(text.data(), us) == text.data() + text.size());
    CAPTURE(text);
    CHECK(parse_rfc3339_us(text, kAllTimes) == us);
    std::string date(kDateBytes, '?');
    write_date(date.data(), days_of_us(us));
    CHECK(text.starts_with(date));
  }
}
