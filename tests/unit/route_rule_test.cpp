// What routes ask of events at ingest: a route at all, required fields, computed dedupe keys.
#include "ingest/route_rule.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <utility>
#include <vector>

#include "config/loader.hpp"
#include "daemon/route_rules.hpp"
#include "ingest/event_parser.hpp"
#include "ingest/json_steps.hpp"
#include "spool/sha256.hpp"

using namespace sluice::ingest;
using sluice::spool::ByteBudget;
using sluice::spool::Chunk;
using sluice::spool::EventView;
using sluice::spool::Field;

namespace {

// A parser with routes, and the record of the line that it took last.
class Routed {
 public:
  explicit Routed(std::vector<RouteRule> routes) : parser_(options(std::move(routes)), counters_) {}

  // The nack's code and field, or "accepted".
  std::string parse(const std::string& line) {
    chunk_ = Chunk(budget_, 512);
    const auto refusal = parser_.parse(line, {}, chunk_);
    if (!refusal) return "accepted";
    const std::string field(parser_.refused_field());
    return std::string(refusal_code(*refusal)) + (field.empty() ? "" : " " + field);
  }
  // The hash that the window sees; "none" without a key.
  std::string key_of(const std::string& line) {
    REQUIRE(parse(line) == "accepted");
    const auto& header = EventView(chunk_.bytes().data()).header();
    if ((header.flags & sluice::spool::kHasDedupeKey) == 0) return "none";
    return std::to_string(header.dedupe_hash[0]) + "," + std::to_string(header.dedupe_hash[1]);
  }
  std::string stored_key_of(const std::string& line) {
    REQUIRE(parse(line) == "accepted");
    const EventView event(chunk_.bytes().data());
    for (const auto& field : event.fields()) {
      if (field.field == static_cast<unsigned>(Field::dedupe_key)) {
        return std::string(event.text(field));
      }
    }
    return "none";
  }

 private:
  static ParserOptions options(std::vector<RouteRule> routes) {
    ParserOptions made;
    made.routes = std::move(routes);
    return made;
  }

  IngestCounters counters_;
  ByteBudget budget_{1 << 20};
  Chunk chunk_;
  EventParser parser_;
};

RouteRule rule(std::vector<KeyPart> dedupe, std::string match = "*") {
  RouteRule made;
  made.match = std::move(match);
  made.dedupe = std::move(dedupe);
  return made;
}

}  // namespace

TEST_CASE("route rule: a type that no route matches is refused") {
  Routed routed({rule({}, "tool.*"), rule({}, "log")});
  CHECK(routed.parse(R"({"type":"tool.call"})") == "accepted");
  CHECK(routed.parse("{}") == "accepted");
  CHECK(routed.parse(R"({"type":"tool"})") == "no_route");
  CHECK(routed.parse(R"({"type":"tool.c\u0061ll"})") == "accepted");
  CHECK(Routed({}).parse(R"({"type":"tool"})") == "accepted");
}

TEST_CASE("route rule: an event without a required field is refused with the field's name") {
  RouteRule strict = rule({}, "a");
  strict.required = {"spirit_id", "source", "data"};
  Routed routed({strict, rule({})});
  CHECK(routed.parse(R"({"type":"a","spirit_id":1,"source":"s","data":null})") == "accepted");
  CHECK(routed.parse(R"({"type":"a","source":"s","data":1})") == "schema spirit_id");
  CHECK(routed.parse(R"({"type":"a","spirit_id":null,"source":"s","data":1})") == "accepted");
  CHECK(routed.parse(R"({"type":"a","spirit_id":1,"source":null,"data":1})") == "schema source");
  CHECK(routed.parse(R"({"type":"a","spirit_id":1,"source":7,"data":1})") == "schema source");
  CHECK(routed.parse(R"({"type":"a","spirit_id":1,"source":"s"})") == "schema data");
  CHECK(routed.parse(R"({"type":"b"})") == "accepted");
}

TEST_CASE("route rule: events whose values are equal have one key, and others have others") {
  Routed routed({rule({{"a"}, {"/data/b/0"}, {"time"}})});
  const std::string key =
      routed.key_of(R"({"a":"x","data":{"b":[1]},"time":"2026-01-01T00:00:00Z","c":1})");
  CHECK(key != "none");
  CHECK(routed.key_of(
            R"({"c":2,"ts":5,"time":"2026-01-01T00:00:00Z","data":{"b":[1,2]},"a":"\u0078"})") ==
        key);
  for (const char* const other : {R"({"a":"y","data":{"b":[1]},"time":"2026-01-01T00:00:00Z"})",
                                  R"({"a":"x","data":{"b":[2]},"time":"2026-01-01T00:00:00Z"})",
                                  R"({"a":"x","data":{"b":[1]},"time":"2026-01-01T00:00:01Z"})",
                                  R"({"a":"x","data":{"b":[]},"time":"2026-01-01T00:00:00Z"})",
                                  R"({"a":"x|1","time":"2026-01-01T00:00:00Z"})"}) {
    CHECK(routed.key_of(other) != key);
  }
  Routed pair({rule({{"a"}, {"b"}})});
  CHECK(pair.key_of(R"({"a":"x|y","b":"z"})") != pair.key_of(R"({"a":"x","b":"y|z"})"));
  CHECK(pair.key_of(R"({"a":"x","b":""})") != pair.key_of(R"({"a":"x"})"));
}

TEST_CASE("route rule: no key without any value, without dedupe_if's field, or beside one's own") {
  RouteRule conditional = rule({{"a"}});
  conditional.dedupe_if = "b";
  Routed routed({conditional});
  CHECK(routed.key_of(R"({"a":1})") == "none");
  CHECK(routed.key_of(R"({"a":1,"b":null})") == "none");
  CHECK(routed.key_of(R"({"b":1})") == "none");
  CHECK(routed.key_of(R"({"a":1,"b":1})") != "none");
  CHECK(routed.key_of(R"({"a":1,"b":1,"dedupe_key":"k"})") ==
        routed.key_of(R"({"a":2,"b":1,"dedupe_key":"k"})"));
}

TEST_CASE("route rule: equal values in two routes are two keys") {
  Routed routed({rule({{"a"}}, "x"), rule({{"a"}}, "y")});
  CHECK(routed.key_of(R"({"type":"x","a":1})") != routed.key_of(R"({"type":"y","a":1})"));
}

TEST_CASE("route rule: a key that a column takes is SHA-256 over the values as they came") {
  RouteRule stored = rule({{"spirit_id"}, {"type"}, {"content", 3}, {"time"}, {"source_uri"}});
  stored.stores_key = true;
  Routed routed({stored});
  const std::string expected = '"' +
                               sluice::spool::hex_text(sluice::spool::sha256("s|log|\xc3\xa4"
                                                                             "bc||file:///x"),
                                                       32) +
                               '"';
  CHECK(routed.stored_key_of(
            R"({"spirit_id":"s","content":"\u00e4bcdef","source_uri":"file:///x"})") == expected);
  CHECK(routed.stored_key_of(R"({"dedupe_key":"own","spirit_id":"s"})") == "\"own\"");
  RouteRule unstored = stored;
  unstored.stores_key = false;
  CHECK(Routed({unstored}).stored_key_of(R"({"spirit_id":"s"})") == "none");
}

TEST_CASE("sha256: the known digest of a known text") {
  CHECK(sluice::spool::hex_text(sluice::spool::sha256("abc"), 64) ==
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_CASE("route rules: required columns and the key's column come from the settings") {
  const auto settings = sluice::config::load_text(
      "[[route]]\nmatch = \"a\"\ntable = \"t\"\ndedupe = [\"x\", { from = \"y\", limit = 5 }]\n"
      "dedupe_if = \"y\"\ncolumns = [ { name = \"i\", from = \"$id\", required = true },\n"
      "{ name = \"x\", from = \"x\", required = true }, { name = \"z\", from = \"/z\", required = "
      "true },\n{ name = \"p\", from = \"/data/p\", required = true }, { name = \"o\", from = "
      "\"time\", required = true },\n{ name = \"k\", from = \"$dedupe_key\" } ]\n",
      "sluice.toml", {});
  const auto rules = sluice::daemon::route_rules(settings);
  REQUIRE(rules.size() == 1);
  CHECK(rules[0].match == "a");
  CHECK(rules[0].required == std::vector<std::string>{"x", "z"});
  REQUIRE(rules[0].dedupe.size() == 2);
  CHECK(rules[0].dedupe[1].characters_max == 5);
  CHECK(rules[0].dedupe_if == "y");
  CHECK(rules[0].stores_key);
  CHECK(sluice::daemon::route_rules(sluice::config::load_text("", "x", {})).back().match == "*");
}

TEST_CASE("json steps: a pointer leads to the last of the members that share a key") {
  const auto at = [](std::string_view json, std::string_view pointer) {
    return std::string(follow_pointer(json, pointer_tokens(pointer)).value_or("none"));
  };
  const std::string json = R"({ "a" : [ 1 , {"b":"}\""} ,[]],"a~/":2, "c":1,"\u0063":{"d":3 } })";
  CHECK(at(json, "/a/0") == "1");
  CHECK(at(json, "/a/1/b") == R"("}\"")");
  CHECK(at(json, "/a/2") == "[]");
  CHECK(at(json, "/a/3") == "none");
  CHECK(at(json, "/a~0~1") == "2");
  CHECK(at(json, "/c") == "{\"d\":3 }");
  CHECK(at(json, "/c/d") == "3");
  CHECK(at(json, "/c/d/e") == "none");
  CHECK(at(json, "/x") == "none");
}
