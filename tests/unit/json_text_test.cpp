// Raw JSON copied, decoded and mended.
#include <catch2/catch.hpp>

#include <random>
#include <string>

#include "sink/json_text.hpp"

namespace sluice::sink {
namespace {

using spool::kReplaceNul;
using spool::kReplaceText;
using spool::kStripNul;

constexpr unsigned kNothing = 0;
constexpr const char* kFffd = "\xEF\xBF\xBD";

template <typename Write>
std::string written(Write write, std::string_view text, unsigned flags) {
  std::string out(mended_bytes_max(text.size(), flags), '#');
  const char* end = write(out.data(), text, flags);
  const auto size = static_cast<std::size_t>(end - out.data());
  REQUIRE(size <= out.size());
  out.resize(size);
  return out;
}

std::string json(std::string_view text, unsigned flags) {
  return written(write_json, text, flags);
}
std::string decoded(std::string_view text, unsigned flags = kNothing) {
  return written(write_decoded, text, flags);
}

}  // namespace

TEST_CASE("json text: with nothing to mend raw JSON is copied byte for byte") {
  const std::string text = R"({"a":"\u0000\ud800\n","b":[1.50,null]})"
                           "\xC3\x28";
  CHECK(json(text, kNothing) == text);
}

TEST_CASE("json text: flags that are not mendings change nothing") {
  const std::string text = R"("\u0000\ud800")"
                           "\xFF";
  CHECK(json(text, spool::kHasId | spool::kHasDedupeKey | spool::kHasIdKey) == text);
}

TEST_CASE("json text: the escape of NUL is replaced or left out, its literal text is not") {
  CHECK(json(R"(["a\u0000b","\\u0000","\\\u0000"])", kReplaceNul) ==
        R"(["a\ufffdb","\\u0000","\\\ufffd"])");
  CHECK(json(R"(["a\u0000b","\\u0000","\\\u0000"])", kStripNul) == R"(["ab","\\u0000","\\"])");
}

TEST_CASE("json text: mending NUL leaves surrogates and bytes above ASCII alone") {
  CHECK(json(R"("\u00e4\ud83d\ude00\u0000\u0001")"
             "\xC3\xA4",
             kReplaceNul) == R"("\u00e4\ud83d\ude00\ufffd\u0001")"
                             "\xC3\xA4");
}

TEST_CASE("json text: half a surrogate pair is replaced, a pair is kept") {
  CHECK(json(R"("\ud83d\ude00")", kReplaceText) == R"("\ud83d\ude00")");
  CHECK(json(R"("\uD83D\uDE00")", kReplaceText) == R"("\uD83D\uDE00")");
  CHECK(json(R"("\ud83d")", kReplaceText) == R"("\ufffd")");
  CHECK(json(R"("\ude00\ud83d")", kReplaceText) == R"("\ufffd\ufffd")");
  CHECK(json(R"("\ud83d\ud83d\ude00")", kReplaceText) == R"("\ufffd\ud83d\ude00")");
  CHECK(json(R"("\ud83d\u0041")", kReplaceText) == R"("\ufffd\u0041")");
  CHECK(json(R"("\ud83d\\ude00")", kReplaceText) == R"("\ufffd\\ude00")");
}

TEST_CASE("json text: mending text leaves the escape of NUL to its own flag") {
  CHECK(json(R"("\u0000")", kReplaceText) == R"("\u0000")");
  CHECK(json(R"("\u0000\ud800")", kReplaceText | kStripNul) == R"("\ufffd")");
}

TEST_CASE("json text: each maximal bad part of a sequence becomes one U+FFFD") {
  const auto fffd = [](int times) {
    std::string text;
    for (int i = 0; i < times; ++i) text += kFffd;
    return text;
  };
  CHECK(json("\xC3\x28", kReplaceText) == fffd(1) + "(");
  CHECK(json("\x80", kReplaceText) == fffd(1));
  CHECK(json("\xC0\xAF", kReplaceText) == fffd(2));          // overlong
  CHECK(json("\xE0\x80\xAF", kReplaceText) == fffd(3));      // overlong
  CHECK(json("\xED\xA0\x80", kReplaceText) == fffd(3));      // a surrogate
  CHECK(json("\xF4\x90\x80\x80", kReplaceText) == fffd(4));  // above U+10FFFF
  CHECK(json("\xF0\x9F\x98\"", kReplaceText) == fffd(1) + "\"");
  CHECK(json("\xF0\x9F\x98", kReplaceText) == fffd(1));  // cut off by the end
  CHECK(json("\xE2\x82\xE2\x82\xAC", kReplaceText) == fffd(1) + "\xE2\x82\xAC");
  // The example of Unicode 15, table 3-11.
  CHECK(json("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", kReplaceText) == fffd(4) + "A");
}

TEST_CASE("json text: good text of every sequence length comes through the mending unchanged") {
  const std::string text =
      "A\xC2\x80\xDF\xBF\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF"
      "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF";
  CHECK(json(text, kReplaceText) == text);
  CHECK(decoded(text, kReplaceText) == text);
}

TEST_CASE("json text: a literal is decoded with all its escapes") {
  CHECK(decoded(R"(\"\\\/\b\f\n\r\t)") == "\"\\/\b\f\n\r\t");
  CHECK(decoded(R"(\u0041\u00e4\u20AC\ud83d\uDE00)") == "A\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80");
  CHECK(decoded(R"(\u007f\u0080\u07ff\u0800\uffff)") ==
        "\x7F\xC2\x80\xDF\xBF\xE0\xA0\x80\xEF\xBF\xBF");
  CHECK(decoded(R"(\ud800\udc00\udbff\udfff)") == "\xF0\x90\x80\x80\xF4\x8F\xBF\xBF");
  CHECK(decoded(R"(\\u0000)") == R"(\u0000)");
  CHECK(decoded("") == "");
}

TEST_CASE("json text: what text cannot hold is mended when a literal is decoded") {
  CHECK(decoded(R"(a\u0000b)", kReplaceNul) == std::string("a") + kFffd + "b");
  CHECK(decoded(R"(a\u0000b)", kStripNul) == "ab");
  CHECK(decoded(R"(a\udc00b)", kReplaceText) == std::string("a") + kFffd + "b");
  CHECK(decoded("a\xFF"
                "b",
                kReplaceText) == std::string("a") + kFffd + "b");
}

TEST_CASE(
    "json text: whatever bytes come, mended text is valid UTF-8 and mending it again is idle") {
  const auto seed = std::random_device{}();
  INFO("seed " << seed);
  std::mt19937 random(seed);
  constexpr std::string_view kBytes = "ab\x80\xBF\xC2\xE0\xA0\xED\x9F\xEF\xF0\x90\xF4\x8F\xFF";
  for (int round = 0; round < 20'000; ++round) {
    std::string text(random() % 12, '\0');
    for (char& c : text) c = kBytes[random() % kBytes.size()];
    const std::string once = json(text, kReplaceText);
    CHECK(json(once, kReplaceText) == once);
    CHECK(decoded(text, kReplaceText) == once);
  }
}

}  // namespace sluice::sink
