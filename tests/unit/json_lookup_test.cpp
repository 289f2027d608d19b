// Members and pointers found in the text of events.
#include <catch2/catch.hpp>

#include <string>
#include <string_view>
#include <vector>

#include "sink/json_lookup.hpp"
#include "sink/json_scan.hpp"

namespace sluice::sink {
namespace {

using spool::ValueKind;

// What the pointers find in the text; "-" where there is nothing.
std::vector<std::string> found(std::string_view json, const std::vector<std::string>& pointers) {
  JsonLookup lookup;
  for (std::size_t i = 0; i < pointers.size(); ++i) lookup.add(pointer_tokens(pointers[i]), i);
  std::vector<JsonValue> values(pointers.size());
  lookup.find_in(json, values);
  std::vector<std::string> texts;
  for (const JsonValue& value : values) {
    texts.emplace_back(value.is_there() ? value.text : std::string_view("-"));
  }
  return texts;
}

std::string found(std::string_view json, const std::string& pointer) {
  return found(json, std::vector{pointer}).front();
}

}  // namespace

TEST_CASE("json lookup: a pointer's tokens are unescaped once") {
  CHECK(pointer_tokens("").empty());
  CHECK(pointer_tokens("/") == std::vector<std::string>{""});
  CHECK(pointer_tokens("/a/~1~0/") == std::vector<std::string>{"a", "/~", ""});
  CHECK(pointer_tokens("/~01") == std::vector<std::string>{"~1"});
}

TEST_CASE("json lookup: the pointers of RFC 6901 find what it says") {
  const std::string_view json =
      R"({"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8})";
  CHECK(found(json, "/foo") == R"(["bar","baz"])");
  CHECK(found(json, "/foo/0") == R"("bar")");
  CHECK(found(json, "/foo/1") == R"("baz")");
  CHECK(found(json, "/foo/2") == "-");
  CHECK(found(json, "/foo/01") == "-");
  CHECK(found(json, "/foo/-") == "-");
  CHECK(found(json, "/") == "0");
  CHECK(found(json, "/a~1b") == "1");
  CHECK(found(json, "/c%d") == "2");
  CHECK(found(json, "/e^f") == "3");
  CHECK(found(json, "/g|h") == "4");
  CHECK(found(json, "/i\\j") == "5");
  CHECK(found(json, "/k\"l") == "6");
  CHECK(found(json, "/ ") == "7");
  CHECK(found(json, "/m~0n") == "8");
  CHECK(found(json, "/nothing") == "-");
  CHECK(found(json, "/foo/0/bar") == "-");
}

TEST_CASE("json lookup: one walk finds values, their parts, and parts of those") {
  const std::string_view json =
      "{ \"a\" : { \"b\" : [ 1 , { \"c\" : \"}]\\\"{\" } , [] ] , \"d\" : null } ,\t\"e\":-1.5e3 }";
  CHECK(found(json, std::vector<std::string>{"/a", "/a/b", "/a/b/1/c", "/a/d", "/e", "/a/b/2"}) ==
        std::vector<std::string>{"{ \"b\" : [ 1 , { \"c\" : \"}]\\\"{\" } , [] ] , \"d\" : null }",
                                 "[ 1 , { \"c\" : \"}]\\\"{\" } , [] ]", "\"}]\\\"{\"", "null",
                                 "-1.5e3", "[]"});
}

TEST_CASE("json lookup: of equal keys the last counts, with what is in it") {
  CHECK(found(R"({"a":1,"a":2})", "/a") == "2");
  CHECK(found(R"({"a":{"b":1},"a":{"c":2}})", std::vector<std::string>{"/a/b", "/a/c"}) ==
        std::vector<std::string>{"-", "2"});
  CHECK(found(R"({"a":{"b":1},"a":7})", "/a/b") == "-");
}

TEST_CASE("json lookup: a key with escapes is the key that it stands for") {
  CHECK(found(R"({"\u0061":1})", "/a") == "1");
  CHECK(found(R"({"a\u002fb":1})", "/a~1b") == "1");
  CHECK(found("{\"\\u00e4\":1}", "/\xC3\xA4") == "1");
  CHECK(found(R"({"\\u0061":1})", "/a") == "-");
}

TEST_CASE("json lookup: a number is a place in an array or a key of an object") {
  CHECK(found(R"({"a":{"0":"key"}})", "/a/0") == "\"key\"");
  CHECK(found(R"({"a":["place"]})", "/a/0") == "\"place\"");
}

TEST_CASE("json lookup: values longer than a vector register are stepped over") {
  for (std::size_t length = 0; length < 70; ++length) {
    const std::string text(length, 'x');
    const std::string json = R"({"s":")" + text + R"(\"}","o":{"t":")" + text + R"(]"},"n":[[")" +
                             text + R"("]],"end":1})";
    CAPTURE(length);
    CHECK(found(json, "/end") == "1");
    CHECK(found(json, "/o/t") == '"' + text + "]\"");
  }
}

TEST_CASE("json lookup: members that are taken whole are told with their keys") {
  JsonLookup lookup;
  lookup.add(std::vector<std::string>{"host"}, 0);
  lookup.add(std::vector<std::string>{"tags", "0"}, 1);
  std::vector<JsonValue> values(2);
  std::vector<std::string_view> whole;
  lookup.find_in_members(R"("level":30, "host" : "a","tags":["x"],"host":"b")", values, whole);
  CHECK(values[0].text == "\"b\"");
  CHECK(values[0].kind == ValueKind::string);
  CHECK(values[1].text == "\"x\"");
  CHECK(whole == std::vector<std::string_view>{R"("host" : "a")", R"("host":"b")"});
}

TEST_CASE("json lookup: kinds are told by the first character") {
  const auto kind = [](std::string_view json) {
    return value_between(json.data(), json.data() + json.size()).kind;
  };
  CHECK(kind(R"("a")") == ValueKind::string);
  CHECK(kind(R"("\n")") == ValueKind::escaped_string);
  CHECK(kind("-1") == ValueKind::number);
  CHECK(kind("true") == ValueKind::boolean);
  CHECK(kind("false") == ValueKind::boolean);
  CHECK(kind("null") == ValueKind::null);
  CHECK(kind("{}") == ValueKind::object);
  CHECK(kind("[]") == ValueKind::array);
}

}  // namespace sluice::sink
