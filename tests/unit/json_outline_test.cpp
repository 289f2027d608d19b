#include "daemon/json_outline.hpp"

#include <catch2/catch.hpp>
#include <string>

namespace {

using sluice::daemon::json_outline;

TEST_CASE("json outline: plain members come first, in their order, in one column") {
  CHECK(json_outline(R"({"id": "1", "data": {"b": 2.50, "aaaa": true}, "name": "x y"})") ==
        "id    1\n"
        "name  x y\n"
        "\n"
        "data\n"
        "  b     2.50\n"
        "  aaaa  true\n");
}

TEST_CASE("json outline: what is empty is left out") {
  CHECK(json_outline(R"({"a": null, "b": [], "c": {}, "d": {"e": {"f": null}}, "g": ""})") ==
        "g  \n");
  CHECK(json_outline("{}").empty());
}

TEST_CASE("json outline: a short object of an array takes one line") {
  CHECK(json_outline(R"({"l": [{"a": 1, "b": "x"}, 7, "y", {"a": {"b": 2}, "c": 3}]})") ==
        "l\n"
        "  - a: 1, b: x\n"
        "  - 7\n"
        "  - y\n"
        "  - c  3\n"
        "    a\n"
        "      b  2\n");
}

TEST_CASE("json outline: arrays in arrays are told apart") {
  CHECK(json_outline("[[1, 2], [3]]") ==
        "- - 1\n"
        "  - 2\n"
        "- - 3\n");
}

TEST_CASE("json outline: no line of a text can pass for a member") {
  CHECK(json_outline(R"({"t": "one\nid  forged", "l": ["a\nb"]})") ==
        "t\n"
        "  | one\n"
        "  | id  forged\n"
        "\n"
        "l\n"
        "  - | a\n"
        "    | b\n");
}

TEST_CASE("json outline: control characters reach no terminal, from keys neither") {
  const std::string shown =
      json_outline("{\"k\\u001b[2J\": \"\\u001b]0;x\\u0007 \\u009b1m \\u202e \\r\"}");
  CHECK(shown == "k\\x1b[2J  \\x1b]0;x\\x07 \\x9b1m \\u{202e} \\x0d\n");
}

TEST_CASE("json outline: a long text is shown whole") {
  const std::string text(100'000, 'x');
  CHECK(json_outline("{\"t\": \"" + text + "\"}") == "t  " + text + "\n");
}

TEST_CASE("json outline: any depth is shown") {
  std::string deep;
  for (int i = 0; i < 5'000; ++i) deep += "{\"a\": [";
  deep += "1";
  for (int i = 0; i < 5'000; ++i) deep += "]}";
  CHECK(json_outline(deep).find('1') != std::string::npos);
}

}  // namespace
