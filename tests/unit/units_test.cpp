// Sizes, durations and modes, read and written.
#include "config/units.hpp"

#include <catch2/catch.hpp>

using namespace sluice::config;
using std::chrono::milliseconds;

TEST_CASE("units: sizes are read with binary, decimal and no units") {
  CHECK(parse_size("0") == 0);
  CHECK(parse_size("1048576") == 1048576);
  CHECK(parse_size("1MiB") == 1048576);
  CHECK(parse_size("64 KiB") == 65536);
  CHECK(parse_size("2GiB") == 2147483648);
  CHECK(parse_size("1kB") == 1000);
  CHECK(parse_size("3B") == 3);
}

TEST_CASE("units: what is no size is refused") {
  const char* text = GENERATE("", " ", "MiB", "1 Mi B", "1mib", "-1", "+1", "1.5MiB", "1MiBx",
                              "0x10", "1 ", " 1", "16777216TiB", "99999999999999999999");
  INFO(text);
  CHECK_FALSE(parse_size(text).has_value());
}

TEST_CASE("units: the largest size that fits is read and one more is not") {
  CHECK(parse_size("18446744073709551615") == 18446744073709551615U);
  CHECK(parse_size("18014398509481983KiB").has_value());
  CHECK_FALSE(parse_size("18014398509481984KiB").has_value());
}

TEST_CASE("units: durations need a unit, except zero") {
  CHECK(parse_duration("20ms") == milliseconds{20});
  CHECK(parse_duration("10 s") == milliseconds{10'000});
  CHECK(parse_duration("10min") == milliseconds{600'000});
  CHECK(parse_duration("1h") == milliseconds{3'600'000});
  CHECK(parse_duration("7d") == milliseconds{604'800'000});
  CHECK(parse_duration("0") == milliseconds{0});
  const char* text =
      GENERATE("", "20", "ms", "20m", "20us", "-1s", "1.5s", "20ms!", "106751991168d");
  INFO(text);
  CHECK_FALSE(parse_duration(text).has_value());
}

TEST_CASE("units: file modes are three or four octal digits") {
  CHECK(parse_mode("0660") == 0660U);
  CHECK(parse_mode("777") == 0777U);
  const char* text = GENERATE("", "66", "00660", "0680", "rw-", "06 0", "-660");
  INFO(text);
  CHECK_FALSE(parse_mode(text).has_value());
}

TEST_CASE("units: what is written is read as the same") {
  const std::uint64_t bytes = GENERATE(0U, 1U, 1000U, 1024U, 1048576U, 1049600U, 16776192U);
  CHECK(parse_size(size_text(bytes)) == bytes);
  const auto duration = milliseconds{GENERATE(0, 1, 999, 1'000, 90'000, 3'600'000, 86'400'001)};
  CHECK(parse_duration(duration_text(duration)) == duration);
  CHECK(parse_mode(mode_text(0640)) == 0640U);
}

TEST_CASE("units: the largest unit that divides is written") {
  CHECK(size_text(65536) == "64KiB");
  CHECK(size_text(1000) == "1000B");
  CHECK(duration_text(milliseconds{600'000}) == "10min");
  CHECK(duration_text(milliseconds{1'500}) == "1500ms");
  CHECK(mode_text(0660) == "0660");
}
