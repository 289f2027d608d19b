// The look at a line's bytes, and the mending of its escapes.
#include "ingest/line_scan.hpp"

#include <catch2/catch.hpp>
#include <string>

using sluice::ingest::EscapeScan;
using sluice::ingest::LineScan;
using sluice::ingest::mend_escapes;
using sluice::ingest::scan_line;

namespace {

struct Mended {
  std::string text;
  EscapeScan scan;
};

Mended mended(std::string text) {
  const EscapeScan scan = mend_escapes(text);
  return {std::move(text), scan};
}

}  // namespace

TEST_CASE("line scan: finds each kind of byte wherever it stands") {
  for (std::size_t size = 1; size <= 50; ++size) {
    for (std::size_t at = 0; at < size; ++at) {
      for (unsigned value = 0; value < 256; ++value) {
        std::string line(size, 'x');
        line[at] = static_cast<char>(value);
        const LineScan scan = scan_line(line);
        const bool blank = value == '\t' || value == '\n' || value == '\r';
        const bool right = scan.has_nul == (value == 0) &&
                           scan.has_control == (value > 0 && value < 0x20 && !blank) &&
                           scan.has_backslash == (value == '\\') &&
                           scan.has_non_ascii == (value >= 0x80);
        if (!right) FAIL("size " << size << ", byte " << value << " at " << at);
      }
    }
  }
  CHECK_FALSE(scan_line("").has_nul);
}

TEST_CASE("line scan: tells several kinds at once") {
  const LineScan scan = scan_line(std::string("\t0123456789abcdef\0\\\x01\xC3\xA9", 22));
  CHECK(scan.has_nul);
  CHECK(scan.has_control);
  CHECK(scan.has_backslash);
  CHECK(scan.has_non_ascii);
}

TEST_CASE("escapes: a NUL escape is seen and left, its literal text is not one") {
  CHECK(mended(R"(a\u0000b)").scan.has_nul);
  CHECK(mended(R"(a\u0000b)").text == R"(a\u0000b)");
  CHECK_FALSE(mended(R"(a\\u0000b)").scan.has_nul);
  CHECK(mended(R"(a\\\u0000b)").scan.has_nul);
  CHECK_FALSE(mended(R"(\u0001\u000)").scan.has_nul);
}

TEST_CASE("escapes: lone and swapped surrogates become U+FFFD, pairs stay") {
  const struct {
    const char* text;
    const char* mended;
  } cases[] = {
      {R"(\ud83d\ude00)", R"(\ud83d\ude00)"},
      {R"(\uD83D\uDE00)", R"(\uD83D\uDE00)"},
      {R"(\ud83d)", R"(\ufffd)"},
      {R"(\ude00)", R"(\ufffd)"},
      {R"(\ude00\ud83d)", R"(\ufffd\ufffd)"},
      {R"(\ud83d\ud83d\ude00)", R"(\ufffd\ud83d\ude00)"},
      {R"(\ud83dx\ude00)", R"(\ufffdx\ufffd)"},
      {R"(\ud83d\n\ude00)", R"(\ufffd\n\ufffd)"},
      {R"(\ud83d\\ude00)", R"(\ufffd\\ude00)"},
      {R"(\ud83d\u0041)", R"(\ufffd\u0041)"},
      {R"(\\ud83d)", R"(\\ud83d)"},
      {R"(\ud83d\ude0)", R"(\ufffd\ude0)"},
      {R"(\ud7ff\ue000)", R"(\ud7ff\ue000)"},
      {R"(\udbff\udfff)", R"(\udbff\udfff)"},
  };
  for (const auto& c : cases) {
    CAPTURE(c.text);
    const Mended result = mended(c.text);
    CHECK(result.text == c.mended);
    CHECK(result.scan.has_lone_surrogate == (std::string(c.text) != c.mended));
  }
}

TEST_CASE("escapes: a text that ends inside an escape is left alone") {
  const std::string whole = R"(\ud83d\ude00)";
  for (std::size_t size = 0; size < 6; ++size) {
    const std::string text = whole.substr(0, size);
    CAPTURE(text);
    const Mended result = mended(text);
    CHECK(result.text == text);
    CHECK_FALSE(result.scan.has_lone_surrogate);
  }
  CHECK(mended("\\").text == "\\");
}
