// The stream that the JSON reader parses a line from, in place.
#include "ingest/line_stream.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <utility>

using sluice::ingest::LineStream;

namespace {

std::string padded(std::string text) {
  return std::move(text) + std::string(1 + LineStream::kPaddingBytes, '\0');
}

}  // namespace

TEST_CASE(
    "line stream: a run ends at a quote, a backslash or a control character, and nowhere else") {
  for (std::size_t before = 0; before <= 50; ++before) {
    for (unsigned value = 0; value < 256; ++value) {
      std::string text = padded(std::string(before, 'x') + static_cast<char>(value) + "yz\"");
      LineStream stream(text.data());
      stream.PutBegin();
      stream.pass_run();
      const bool ends = value == '"' || value == '\\' || value < 0x20;
      if (stream.Tell() != (ends ? before : before + 3)) FAIL("byte " << value << " at " << before);
    }
  }
}

TEST_CASE("line stream: a run behind an escape moves to where the decoded text goes on") {
  for (std::size_t skipped = 1; skipped <= 40; ++skipped) {
    for (std::size_t length = 0; length <= 50; ++length) {
      std::string run;
      for (std::size_t i = 0; i < length; ++i) run += static_cast<char>('a' + i % 26);
      std::string text = padded(std::string(skipped, '~') + run + "\"rest");
      LineStream stream(text.data());
      char* const begin = stream.PutBegin();
      for (std::size_t i = 0; i < skipped; ++i) stream.Take();
      stream.pass_run();
      const std::string put(begin, stream.PutEnd(begin));
      const bool goes_on = std::string(&text[stream.Tell()], 5) == "\"rest";
      if (put != run || !goes_on) FAIL("a run of " << length << " behind " << skipped);
    }
  }
}

TEST_CASE("line stream: the four kinds of white space are skipped, and no other byte") {
  for (unsigned value = 0; value < 256; ++value) {
    std::string text = padded(" \t\r\n" + std::string(1, static_cast<char>(value)) + "x");
    LineStream stream(text.data());
    stream.skip_space();
    const bool space = value == ' ' || value == '\t' || value == '\r' || value == '\n';
    CHECK(stream.Tell() == (space ? 5u : 4u));
  }
}
