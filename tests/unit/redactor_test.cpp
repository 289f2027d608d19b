// The redactor: which values of a line are replaced, and that nothing of them is left.
#include "ingest/redactor.hpp"

#include <catch2/catch.hpp>
#include <string>
#include <utility>
#include <vector>

#include "ingest/event_parser.hpp"
#include "tests/support/seeded_random.hpp"

using namespace sluice::ingest;
using Action = RedactRule::Action;
using sluice::spool::ByteBudget;
using sluice::spool::Chunk;
using sluice::spool::EventView;

namespace {

RedactRule replacing(std::vector<std::string> fields, std::string match = "") {
  RedactRule rule;
  rule.name = "rule";
  rule.fields = std::move(fields);
  rule.match = std::move(match);
  return rule;
}

RedactRule hashing(std::vector<std::string> fields, std::string salt = "a salt of some bytes") {
  RedactRule rule = replacing(std::move(fields));
  rule.action = Action::hash;
  rule.salt = std::move(salt);
  return rule;
}

std::string redacted(std::vector<RedactRule> rules, const std::string& line,
                     const std::string& type = "log") {
  Redactor redactor(std::move(rules));
  return std::string(redactor.redact(line, type));
}

// A line of random members, some of which are secrets: under names and at places that rules tell.
class RandomLine {
 public:
  explicit RandomLine(std::uint64_t seed) : random_(seed) { line_ = object(0, true); }

  [[nodiscard]] const std::string& line() const { return line_; }
  [[nodiscard]] std::size_t secrets() const { return secrets_; }

 private:
  std::string space() { return std::string(random_.below(5) == 0 ? random_.below(3) : 0, ' '); }

  std::string secret() {
    ++secrets_;
    switch (random_.below(4)) {
      case 0:
        return "\"SECRET\\\\\\\"\"";
      case 1:
        return "[1,\"SECRET\",{\"a\":\"}]\\\"SECRET\"}]";
      case 2:
        return R"({"password":"SECRET","x":[{}]})";
      default:
        return R"("\u0053ECRET SECRET")";
    }
  }
  std::string plain(int depth) {
    switch (random_.below(depth > 4 ? 5 : 7)) {
      case 0:
        return "-1.5e3";
      case 1:
        return "null";
      case 2:
        return "\"kept \\\\\"";
      case 3:
        return R"("a \"password\": \"kept\" in a text")";
      case 4:
        return "\"\"";
      case 5:
        return object(depth + 1, false);
      default:
        return array(depth + 1);
    }
  }
  std::string array(int depth) {
    std::string text = "[" + space();
    for (std::size_t i = random_.below(4); i > 0; --i) {
      text += plain(depth) + space() + (i > 1 ? "," + space() : "");
    }
    return text + "]";
  }
  std::string object(int depth, bool is_top) {
    std::vector<std::string> members;
    for (std::size_t i = random_.below(5); i > 0; --i) {
      if (random_.below(3) == 0) {
        members.push_back(secret_key() + space() + ":" + space() + secret());
      } else {
        members.push_back("\"k" + std::to_string(i) + "\":" + space() + plain(depth));
      }
    }
    if (is_top) members.push_back(R"("data":{"list":[{"token":)" + secret() + R"(},0]})");
    std::string text = "{" + space();
    for (std::size_t i = 0; i < members.size(); ++i) {
      text += (i == 0 ? "" : "," + space()) + members[i] + space();
    }
    return text + "}";
  }
  std::string secret_key() {
    const std::vector<std::string> keys = {R"("password")", R"("pass\u0077ord")", R"("PassWord")",
                                           R"("api\/key")", R"("pass\u0000word")"};
    return keys[random_.below(keys.size())];
  }

  sluice::tests::SeededRandom random_;
  std::string line_;
  std::size_t secrets_ = 0;
};

}  // namespace

TEST_CASE("redactor: a name is found at any depth, however it is spelled") {
  const std::vector<RedactRule> rules = {replacing({"password"})};
  CHECK(redacted(rules, R"({"password":"x"})") == R"({"password":"[redacted]"})");
  CHECK(redacted(rules, R"({"a":[{"b":{"password":"x"}},"password"]})") ==
        R"({"a":[{"b":{"password":"[redacted]"}},"password"]})");
  CHECK(redacted(rules, R"({"pass\u0077ord" : "x" , "n":1})") ==
        R"({"pass\u0077ord" : "[redacted]" , "n":1})");
  CHECK(redacted(rules, R"({"PASSWORD":"x"})") == R"({"PASSWORD":"[redacted]"})");
  CHECK(redacted(rules, R"({"pass\u0000word":"x"})") == R"({"pass\u0000word":"[redacted]"})");
  CHECK(redacted(rules, R"({"passwords":"x","a":"password"})") ==
        R"({"passwords":"x","a":"password"})");
}

TEST_CASE("redactor: a value of any kind is replaced whole") {
  const std::vector<RedactRule> rules = {replacing({"p"})};
  for (const char* const value : {"1", "-0.5e3", "true", "null", "\"\"", R"("a\"}]\\")", "[]", "{}",
                                  R"([1,[2,"]"]])", R"({"p":"}","q":{"r":[]}})"}) {
    CHECK(redacted(rules, std::string(R"({"a":1,"p":)") + value + R"(,"z":2})") ==
          R"({"a":1,"p":"[redacted]","z":2})");
    CHECK(redacted(rules, std::string(R"({ "p" : )") + value + " }") ==
          R"({ "p" : "[redacted]" })");
  }
}

TEST_CASE("redactor: each of the members that share a key is replaced") {
  CHECK(redacted({replacing({"p"})}, R"({"p":1,"p":2,"d":{"p":3}})") ==
        R"({"p":"[redacted]","p":"[redacted]","d":{"p":"[redacted]"}})");
}

TEST_CASE("redactor: a pointer is one place, with a star for any one step") {
  CHECK(
      redacted({replacing({"/data/token"})}, R"({"token":1,"data":{"token":2,"a":{"token":3}}})") ==
      R"({"token":1,"data":{"token":"[redacted]","a":{"token":3}}})");
  CHECK(
      redacted({replacing({"/data/*/token"})}, R"({"data":[{"token":1},{"token":2}],"token":3})") ==
      R"({"data":[{"token":"[redacted]"},{"token":"[redacted]"}],"token":3})");
  CHECK(redacted({replacing({"/a/1"})}, R"({"a":[0,1,2]})") == R"({"a":[0,"[redacted]",2]})");
  CHECK(redacted({replacing({"/a/01"})}, R"({"a":[0,1,2]})") == R"({"a":[0,1,2]})");
  CHECK(redacted({replacing({"/a~1b/m~0n"})}, R"({"a/b":{"m~n":1}})") ==
        R"({"a/b":{"m~n":"[redacted]"}})");
  CHECK(redacted({replacing({"/a/*"})}, R"({"a":{"b":1,"c":[2]},"d":3})") ==
        R"({"a":{"b":"[redacted]","c":"[redacted]"},"d":3})");
  CHECK(redacted({replacing({"/a"})}, R"({"A":1})") == R"({"A":1})");
}

TEST_CASE("redactor: a rule with a match leaves events of other types alone") {
  const std::vector<RedactRule> rules = {replacing({"p"}, "tool.*")};
  CHECK(redacted(rules, R"({"p":1})", "tool.call") == R"({"p":"[redacted]"})");
  CHECK(redacted(rules, R"({"p":1})", "log") == R"({"p":1})");
}

TEST_CASE("redactor: the first of several rules counts, and each counts its own") {
  RedactRule second = replacing({"/p", "q"});
  second.with = "a \"b\"\n";
  Redactor redactor({replacing({"p"}), second});
  CHECK(redactor.redact(R"({"p":1,"q":2,"r":{"q":3}})", "log") ==
        R"({"p":"[redacted]","q":"a \"b\"\u000a","r":{"q":"a \"b\"\u000a"}})");
  CHECK(redactor.count(0) == 1);
  CHECK(redactor.count(1) == 2);
}

TEST_CASE("redactor: equal values have equal hashes, which the salt decides") {
  const std::vector<RedactRule> rules = {hashing({"p"})};
  const std::string hashed = redacted(rules, R"({"p":"secret"})");
  // HMAC-SHA-256 by another program.
  CHECK(hashed == R"({"p":"hmac-sha256:8783e80f695c684204ba62451af2acf9"})");
  CHECK(redacted(rules, R"({"p":"secre\u0074"})") == hashed);
  CHECK(redacted(rules, R"({"p":"secret2"})") != hashed);
  CHECK(redacted({hashing({"p"}, "another salt of bytes")}, R"({"p":"secret"})") != hashed);
}

TEST_CASE("redactor: a line that no rule hits is handed on as it is") {
  Redactor redactor({replacing({"p"})});
  const std::string line = R"({"a":{"b":[1,2,{"c":"p"}]}})";
  CHECK(redactor.redact(line, "log").data() == line.data());
}

TEST_CASE("redactor: no secret is left in a record, whatever the line looks like") {
  Redactor redactor({replacing({"password", "api/key", "/data/list/0/token"})});
  ParserOptions options;
  options.redactor = &redactor;
  IngestCounters counters;
  EventParser parser(options, counters);
  ByteBudget budget(1 << 20);
  std::size_t secrets = 0;
  for (std::uint64_t seed = 1; seed <= 5'000; ++seed) {
    const RandomLine random(seed);
    INFO("seed " << seed << ": " << random.line());
    Chunk chunk(budget, 4096);
    const auto refusal = parser.parse(random.line(), {}, chunk);
    REQUIRE_FALSE(refusal);
    const EventView event(chunk.bytes().data());
    const std::string record(reinterpret_cast<const char*>(chunk.bytes().data()),
                             chunk.bytes().size());
    REQUIRE(record.find("ECRET") == std::string::npos);
    REQUIRE(parser.kept_line() == event.line());
    secrets += random.secrets();
  }
  CHECK(redactor.count(0) == secrets);
}

TEST_CASE("event parser: fields, dedupe key and time are those of the redacted line") {
  Redactor redactor({hashing({"dedupe_key"}), replacing({"time", "session_id"})});
  ParserOptions options;
  options.redactor = &redactor;
  IngestCounters counters;
  EventParser parser(options, counters);
  ByteBudget budget(1 << 20);
  Chunk chunk(budget, 4096);
  const std::string line =
      R"({"session_id":"s","time":"2020-01-01T00:00:00Z","dedupe_key":"k","data":1})";
  REQUIRE_FALSE(parser.parse(line, {7, 0, 0}, chunk));
  const EventView event(chunk.bytes().data());
  CHECK(event.header().occurred_us == 7);
  CHECK(counters.misfits[static_cast<std::size_t>(KnownField::time)] == 1);
  Chunk other(budget, 4096);
  REQUIRE_FALSE(EventParser(ParserOptions{}, counters).parse(line, {7, 0, 0}, other));
  CHECK(event.header().dedupe_hash[0] != EventView(other.bytes().data()).header().dedupe_hash[0]);
}

TEST_CASE("event parser: of a refused line what a rule might have to take out is not kept") {
  Redactor redactor({replacing({"password"})});
  ParserOptions options;
  options.default_type = "";
  IngestCounters counters;
  ByteBudget budget(1 << 20);
  Chunk chunk(budget, 4096);

  EventParser open(options, counters);
  CHECK(open.parse(R"({"password":"x")", {}, chunk) == Refusal::syntax);
  CHECK(open.kept_line() == R"({"password":"x")");

  options.redactor = &redactor;
  EventParser parser(options, counters);
  CHECK(parser.parse(R"({"password":"x")", {}, chunk) == Refusal::syntax);
  CHECK(parser.kept_line().empty());
  CHECK(parser.parse(R"({"password":"x"})", {}, chunk) == Refusal::schema);
  CHECK(parser.kept_line() == R"({"password":"[redacted]"})");
}
