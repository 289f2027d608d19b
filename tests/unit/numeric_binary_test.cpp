// JSON numbers as the binary form of Postgres's numeric.
#include <catch2/catch.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sink/numeric_binary.hpp"

namespace sluice::sink {
namespace {

struct Numeric {
  int weight = 0;
  bool negative = false;
  int scale = 0;
  std::vector<int> digits;

  bool operator==(const Numeric&) const = default;
};

std::ostream& operator<<(std::ostream& out, const Numeric& numeric) {
  out << (numeric.negative ? "-" : "+") << " weight " << numeric.weight << " scale "
      << numeric.scale << " digits";
  for (const int digit : numeric.digits) out << ' ' << digit;
  return out;
}

int read_u16(const std::string& bytes, std::size_t at) {
  return static_cast<unsigned char>(bytes[at]) << 8 | static_cast<unsigned char>(bytes[at + 1]);
}

std::optional<Numeric> numeric(std::string_view number) {
  std::string bytes(numeric_bytes_max(number.size()), '#');
  const char* end = write_numeric(bytes.data(), number);
  if (end == nullptr) return std::nullopt;
  const auto size = static_cast<std::size_t>(end - bytes.data());
  REQUIRE(size <= bytes.size());
  Numeric result;
  result.weight = static_cast<std::int16_t>(read_u16(bytes, 2));
  result.negative = read_u16(bytes, 4) == 0x4000;
  result.scale = read_u16(bytes, 6);
  REQUIRE(size == 8 + 2 * static_cast<std::size_t>(read_u16(bytes, 0)));
  for (std::size_t at = 8; at < size; at += 2) result.digits.push_back(read_u16(bytes, at));
  return result;
}

}  // namespace

TEST_CASE("numeric: integers are cut into groups of four from the right") {
  CHECK(numeric("7") == Numeric{0, false, 0, {7}});
  CHECK(numeric("1234") == Numeric{0, false, 0, {1234}});
  CHECK(numeric("12345") == Numeric{1, false, 0, {1, 2345}});
  CHECK(numeric("-18446744073709551616") == Numeric{4, true, 0, {1844, 6744, 737, 955, 1616}});
}

TEST_CASE("numeric: zeros at the end of an integer are no digits") {
  CHECK(numeric("100000000") == Numeric{2, false, 0, {1}});
  CHECK(numeric("1000") == Numeric{0, false, 0, {1000}});
  CHECK(numeric("120000") == Numeric{1, false, 0, {12}});
}

TEST_CASE("numeric: decimals keep their number of digits") {
  CHECK(numeric("1.50") == Numeric{0, false, 2, {1, 5000}});
  CHECK(numeric("0.1") == Numeric{-1, false, 1, {1000}});
  CHECK(numeric("0.00001") == Numeric{-2, false, 5, {1000}});
  CHECK(numeric("0.0001") == Numeric{-1, false, 4, {1}});
  CHECK(numeric("12345.678901") == Numeric{1, false, 6, {1, 2345, 6789, 100}});
  CHECK(numeric("10.0") == Numeric{0, false, 1, {10}});
}

TEST_CASE("numeric: exponents move the point") {
  CHECK(numeric("1e3") == Numeric{0, false, 0, {1000}});
  CHECK(numeric("1.5E+4") == Numeric{1, false, 0, {1, 5000}});
  CHECK(numeric("1.25e1") == Numeric{0, false, 1, {12, 5000}});
  CHECK(numeric("125e-3") == Numeric{-1, false, 3, {1250}});
  CHECK(numeric("1e-400") == Numeric{-100, false, 400, {1}});
  CHECK(numeric("1e308") == Numeric{77, false, 0, {1}});
  CHECK(numeric("0.001e5") == Numeric{0, false, 0, {100}});
}

TEST_CASE("numeric: zero has no sign, but its decimals") {
  CHECK(numeric("0") == Numeric{0, false, 0, {}});
  CHECK(numeric("-0") == Numeric{0, false, 0, {}});
  CHECK(numeric("-0.00") == Numeric{0, false, 2, {}});
  CHECK(numeric("0e99999999999") == Numeric{0, false, 0, {}});
}

TEST_CASE("numeric: what no numeric holds is refused") {
  CHECK(numeric("1e131071").has_value());
  CHECK_FALSE(numeric("1e131072").has_value());
  CHECK(numeric("1e-16383").has_value());
  CHECK_FALSE(numeric("1e-16384").has_value());
  CHECK_FALSE(numeric("1e99999999999999999999").has_value());
  CHECK_FALSE(numeric("0e-99999999999999999999").has_value());
}

TEST_CASE("numeric: below one are numbers whose digits all stand behind the point") {
  CHECK(is_below_one("0.99"));
  CHECK(is_below_one("-1e-400"));
  CHECK(is_below_one("123e-3"));
  CHECK_FALSE(is_below_one("1"));
  CHECK_FALSE(is_below_one("0.01e2"));
  CHECK_FALSE(is_below_one("0"));
}

}  // namespace sluice::sink
