// The event parser: which lines are refused with which code, and what the records of others hold.
#include "ingest/event_parser.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

using namespace sluice::ingest;
using namespace std::string_literals;
using sluice::spool::ByteBudget;
using sluice::spool::Chunk;
using sluice::spool::EventView;
using sluice::spool::Field;
using sluice::spool::FieldSpan;
using sluice::spool::RecordFlag;
using sluice::spool::Uuid;
using sluice::spool::ValueKind;
using Texts = std::vector<std::string>;

namespace {

constexpr std::int64_t kReceivedUs = 1'767'225'600'000'000;  // 2026-01-01T00:00:00Z
const std::string kUuid = "0190a1b2-c3d4-7e5f-8a6b-0123456789ab";

// A parser, and the record of the line it parsed last.
class Parsed {
 public:
  explicit Parsed(ParserOptions options = {}) : parser_(std::move(options), counters) {}
  explicit Parsed(const std::string& line, ParserOptions options = {})
      : Parsed(std::move(options)) {
    parse(line);
  }

  // The line is copied into a buffer of its size, so that reading past it is seen by a sanitizer.
  const Parsed& parse(const std::string& line, std::uint32_t uid = 1000) {
    const std::unique_ptr<char[]> exact(new char[line.size()]);
    std::copy(line.begin(), line.end(), exact.get());
    chunk_ = Chunk(budget_, 64);
    refusal_ = parser_.parse({exact.get(), line.size()}, {kReceivedUs, uid}, chunk_);
    if (refusal_) REQUIRE(chunk_.empty());
    if (!refusal_) {
      REQUIRE(chunk_.count() == 1);
      REQUIRE(event().line() == line);
    }
    return *this;
  }

  [[nodiscard]] std::string code() const {
    return refusal_ ? std::string(refusal_code(*refusal_)) : "accepted";
  }
  [[nodiscard]] EventView event() const {
    REQUIRE_FALSE(refusal_);
    return EventView(chunk_.bytes().data());
  }
  [[nodiscard]] const sluice::spool::RecordHeader& header() const { return event().header(); }
  [[nodiscard]] bool has_flag(RecordFlag flag) const { return (header().flags & flag) != 0; }

  // The texts of all spans of a field.
  [[nodiscard]] Texts all(Field field) const {
    Texts texts;
    for (const FieldSpan& span : event().fields()) {
      if (span.field == static_cast<unsigned>(field)) texts.emplace_back(event().text(span));
    }
    return texts;
  }
  // The text of the only span of a field; "missing" if there is none.
  [[nodiscard]] std::string one(Field field) const {
    const Texts texts = all(field);
    REQUIRE(texts.size() <= 1);
    return texts.empty() ? "missing" : texts[0];
  }
  [[nodiscard]] ValueKind kind(Field field) const {
    for (const FieldSpan& span : event().fields()) {
      if (span.field == static_cast<unsigned>(field)) return static_cast<ValueKind>(span.kind);
    }
    FAIL("no such field");
    return ValueKind::null;
  }
  // The content of the extra object.
  [[nodiscard]] std::string extra() const {
    std::string content;
    for (const std::string& run : all(Field::extra)) content += (content.empty() ? "" : ",") + run;
    return content;
  }

  IngestCounters counters;

 private:
  ByteBudget budget_{1'000'000'000};
  EventParser parser_;
  Chunk chunk_;
  std::optional<Refusal> refusal_;
};

std::string code_of(const std::string& line, ParserOptions options = {}) {
  return Parsed(line, std::move(options)).code();
}

std::string nested_arrays(int depth) {
  return std::string(static_cast<std::size_t>(depth), '[') +
         std::string(static_cast<std::size_t>(depth), ']');
}

std::string object_with_keys(int count) {
  std::string object = "{";
  for (int i = 0; i < count; ++i) {
    object += (i == 0 ? "\"k" : ",\"k") + std::to_string(i) + "\":1";
  }
  return object + "}";
}

std::uint64_t count_of(const Count& count) {
  return count.load();
}

}  // namespace

TEST_CASE("event parser: refuses what is no event, with its code") {
  const std::string bom = "\xEF\xBB\xBF";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{\"a\":1}\0junk"s, "bad_byte"},
      {"\0"s, "bad_byte"},
      {"{\"a\":\"\0\"}"s, "bad_byte"},
      {"[]", "not_object"},
      {"[1,2]", "not_object"},
      {"1", "not_object"},
      {"\"text\"", "not_object"},
      {"null", "not_object"},
      {"true", "not_object"},
      {"{}{}", "trailing"},
      {"{} {}", "trailing"},
      {"{}x", "trailing"},
      {"{},", "trailing"},
      {"{}]", "trailing"},
      {"{\"a\":1}}", "trailing"},
      {"", "syntax"},
      {"   ", "syntax"},
      {"{", "syntax"},
      {"}", "syntax"},
      {"hello", "syntax"},
      {"GET / HTTP/1.1", "syntax"},
      {"\x16\x03\x01\x02", "syntax"},
      {"{\"a\"", "syntax"},
      {"{\"a\"  ", "syntax"},
      {"{\"a\":", "syntax"},
      {"{\"a\":  ", "syntax"},
      {"{\"a\":1", "syntax"},
      {"{\"a\":1,", "syntax"},
      {"{\"a\":1,}", "syntax"},
      {"{\"a\"}", "syntax"},
      {"{\"a\" 1}", "syntax"},
      {"{\"a\"=1}", "syntax"},
      {"{\"a\":}", "syntax"},
      {"{\"a\":1 \"b\":2}", "syntax"},
      {"{\"a\":[1,]}", "syntax"},
      {"{\"a\":[1}", "syntax"},
      {"{\"a\":1]", "syntax"},
      {"{a:1}", "syntax"},
      {"{'a':1}", "syntax"},
      {"{1:1}", "syntax"},
      {"{,}", "syntax"},
      {"{\"a\":NaN}", "syntax"},
      {"{\"a\":Infinity}", "syntax"},
      {"{\"a\":-Infinity}", "syntax"},
      {"{\"a\":01}", "syntax"},
      {"{\"a\":+1}", "syntax"},
      {"{\"a\":.5}", "syntax"},
      {"{\"a\":5.}", "syntax"},
      {"{\"a\":-}", "syntax"},
      {"{\"a\":1e}", "syntax"},
      {"{\"a\":1e+}", "syntax"},
      {"{\"a\":0x10}", "syntax"},
      {"{\"a\":1/*c*/}", "syntax"},
      {"{\"a\":1}//c", "trailing"},
      {"{\"a\":tru}", "syntax"},
      {"{\"a\":True}", "syntax"},
      {"{\"a\":nul}", "syntax"},
      {"{\"a\":undefined}", "syntax"},
      {"{\"a\":\"", "syntax"},
      {"{\"a\":\"\\", "syntax"},
      {"{\"a\":\"\\\"", "syntax"},
      {"{\"a\":\"\\x41\"}", "syntax"},
      {"{\"a\":\"\\u12\"}", "syntax"},
      {"{\"a\":\"\\u12G4\"}", "syntax"},
      {"{\"a\":\"\\U0041\"}", "syntax"},
      {"{\"a", "syntax"},
      {"{\"a\\", "syntax"},
      {bom + "{}", "syntax"},
      {"{\"a\":1}" + bom, "trailing"},
      {"{\"a\":" + bom + "1}", "syntax"},
      {"{\"\\u00", "syntax"},
      {"{\"a\":1e309}", "number_range"},
      {"{\"a\":1e400}", "number_range"},
      {"{\"a\":-1e400}", "number_range"},
      {"{\"a\":1e131071}", "number_range"},
      {"{\"a\":[[1e131071]]}", "number_range"},
      {"{\"a\":1e99999999999999999999}", "number_range"},
      {"{\"a\":1e-99999999999999999999}", "number_range"},
      {"{\"a\":1e-9223372036854775808}", "number_range"},
      {"{\"a\":0.1e-16383}", "number_range"},
      {"{\"a\":1e-16384}", "number_range"},
      {"{\"a\":0." + std::string(16'384, '1') + "}", "number_range"},
      {"{\"dedupe_key\":\"\"}", "dedupe_key"},
      {"{\"dedupe_key\":1}", "dedupe_key"},
      {"{\"dedupe_key\":{}}", "dedupe_key"},
      {"{\"dedupe_key\":\"a\\u0000b\"}", "dedupe_key"},
      {"{\"dedupe_key\":\"" + std::string(257, 'k') + "\"}", "dedupe_key"},
      {"{\"" + std::string(1025, 'k') + "\":1}", "limits"},
      {"{\"a\":{\"" + std::string(1025, 'k') + "\":1}}", "limits"},
      {object_with_keys(1001), "limits"},
      {"{\"a\":" + object_with_keys(1001) + "}", "limits"},
      {"{\"a\":" + nested_arrays(64) + "}", "too_deep"},
      {nested_arrays(100'000), "not_object"},
      {"{\"a\":" + std::string(100'000, '['), "too_deep"},
  };
  Parsed parser;
  for (const auto& [line, code] : cases) {
    CAPTURE(line.substr(0, 80));
    CHECK(parser.parse(line).code() == code);
    // The same parser goes on with the next line as if nothing had been.
    CHECK(parser.parse(R"({"x":1})").extra() == R"("x":1)");
  }
}

TEST_CASE("event parser: takes what is just inside the limits, digit for digit") {
  const Texts values = {
      "0",
      "-0",
      "1e-400",
      "-1E+308",
      "10e308",
      "1e-16383",
      "0.1e-16382",
      "9223372036854775808",
      "18446744073709551616",
      "1.00",
      "123456789012345678901234567890.123456789012345678901234567890",
      std::string(300, '9'),
      "0." + std::string(16'383, '1'),
      nested_arrays(63),
      object_with_keys(1000),
      "{\"" + std::string(1024, 'k') + "\":1}",
      "\"" + std::string(1'000'000, 's') + "\"",
      "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"",
      "\"\x7f\"",
  };
  Parsed parser;
  for (const std::string& value : values) {
    CAPTURE(value.substr(0, 80));
    const std::string member = "\"a\":" + value;
    REQUIRE(parser.parse("{" + member + "}").code() == "accepted");
    CHECK(parser.extra() == member);
  }
  CHECK(code_of(object_with_keys(1000)) == "accepted");
  CHECK(code_of("{\"" + std::string(1024, 'k') + "\":1}") == "accepted");
  CHECK(code_of("{\"dedupe_key\":\"" + std::string(256, 'k') + "\"}") == "accepted");
}

TEST_CASE("event parser: a raw control character is refused, but for white space outside strings") {
  Parsed parser;
  for (char c = 1; c < 0x20; ++c) {
    const bool space = c == '\t' || c == '\n' || c == '\r';
    CAPTURE(static_cast<int>(c));
    // At several places, as strings are looked at 16 bytes at a time.
    for (const std::size_t before : {0, 1, 7, 15, 16, 17, 40}) {
      const std::string text = std::string(before, 'x') + c + std::string(20, 'y');
      CHECK(parser.parse("{\"a\":\"" + text + "\"}").code() == "syntax");
      CHECK(parser.parse("{\"" + text + "\":1}").code() == "syntax");
      CHECK(parser.parse("{\"a\":\"\\n" + text + "\"}").code() == "syntax");
    }
    CHECK(parser.parse("{\"a\":"s + c + "1}").code() == (space ? "accepted" : "syntax"));
    CHECK(parser.parse("{"s + c + "\"a\":1}").code() == (space ? "accepted" : "syntax"));
  }
}

TEST_CASE("event parser: an empty object is an event of the default type") {
  Parsed parsed("{}");
  CHECK(parsed.one(Field::type) == "\"log\"");
  CHECK(parsed.kind(Field::type) == ValueKind::string);
  CHECK(parsed.event().fields().size() == 1);
  CHECK(parsed.header().occurred_us == kReceivedUs);
  CHECK(parsed.header().received_us == kReceivedUs);
  CHECK(parsed.header().uid == 1000);
  CHECK(parsed.header().flags == 0);
}

TEST_CASE("event parser: each known field goes to its place, all others to extra") {
  const std::string parent = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
  Parsed parsed(R"({"type":"tool.call","time":"2026-01-01T00:00:00.123Z","id":")" + kUuid +
                R"(","source":"planner","session_id":"s-1","parent_id":")" + parent +
                R"(","dedupe_key":"k","data":{"any":[1.50,null]},"b":true,"anything_else":1})");
  CHECK(parsed.one(Field::type) == "\"tool.call\"");
  CHECK(parsed.one(Field::source) == "\"planner\"");
  CHECK(parsed.one(Field::session_id) == "\"s-1\"");
  CHECK(parsed.one(Field::parent_id) == "\"" + parent + "\"");
  CHECK(parsed.one(Field::dedupe_key) == "\"k\"");
  CHECK(parsed.one(Field::data) == R"({"any":[1.50,null]})");
  CHECK(parsed.kind(Field::data) == ValueKind::object);
  CHECK(parsed.one(Field::id_member) == "\"id\":\"" + kUuid + "\"");
  CHECK(parsed.all(Field::extra) == Texts{R"("b":true,"anything_else":1)"});
  CHECK(parsed.header().id == *Uuid::parse(kUuid));
  CHECK(parsed.header().occurred_us == kReceivedUs + 123'000);
  CHECK(parsed.has_flag(sluice::spool::kHasId));
  CHECK(parsed.has_flag(sluice::spool::kHasDedupeKey));
  CHECK_FALSE(parsed.has_flag(sluice::spool::kHasIdKey));
}

TEST_CASE("event parser: data may be any JSON value") {
  const std::vector<std::pair<std::string, ValueKind>> values = {
      {"{}", ValueKind::object},    {"[1,[2]]", ValueKind::array},
      {"\"s\"", ValueKind::string}, {"\"\\n\"", ValueKind::escaped_string},
      {"1.50", ValueKind::number},  {"-7", ValueKind::number},
      {"true", ValueKind::boolean}, {"false", ValueKind::boolean},
      {"null", ValueKind::null},    {"{\"a\":\"b\\n\"}", ValueKind::object},
      {"\"\"", ValueKind::string},  {"[]", ValueKind::array},
  };
  for (const auto& [value, kind] : values) {
    Parsed parsed("{ \"data\" : " + value + " , \"x\" : \"\\t\" }");
    CHECK(parsed.one(Field::data) == value);
    CHECK(parsed.kind(Field::data) == kind);
    CHECK(parsed.extra() == "\"x\" : \"\\t\"");
  }
}

TEST_CASE("event parser: runs of extra keep their own white space and lose that around them") {
  Parsed parsed(" \t{ \"a\" : 1 ,\t\"b\" :{ } , \"data\" :2\r ,\r\n \"c\":[ 3 ] , \"d\":4\t} \r");
  CHECK(parsed.all(Field::extra) == Texts{"\"a\" : 1 ,\t\"b\" :{ }", "\"c\":[ 3 ] , \"d\":4"});
  CHECK(parsed.one(Field::data) == "2");
}

TEST_CASE("event parser: strings that look like JSON do not mislead the spans") {
  Parsed parsed(R"({"a}":"},{\"","b:":"\\","c,":":,","data":"}\\\"{","\"d\"":"\"}"})");
  CHECK(parsed.all(Field::extra) ==
        Texts{R"("a}":"},{\"","b:":"\\","c,":":,")", R"("\"d\"":"\"}")"});
  CHECK(parsed.one(Field::data) == R"("}\\\"{")");
}

TEST_CASE("event parser: an escaped spelling of a known key is that key") {
  Parsed parsed(R"({"t\u0079pe":"a","\u0064ata":1,"d\\ata":2})");
  CHECK(parsed.one(Field::type) == "\"a\"");
  CHECK(parsed.one(Field::data) == "1");
  CHECK(parsed.extra() == R"("d\\ata":2)");
  CHECK(Parsed(R"({"Type":"a"})").one(Field::type) == "\"log\"");
}

TEST_CASE("event parser: of duplicate keys the last counts, and they are counted") {
  Parsed parsed(R"({"data":1,"type":"a","x":1,"data":2,"t\u0079pe":"b","x":3,"y":4})");
  CHECK(parsed.one(Field::data) == "2");
  CHECK(parsed.one(Field::type) == "\"b\"");
  CHECK(parsed.all(Field::extra) == Texts{"\"x\":1", "\"x\":3,\"y\":4"});
  CHECK(count_of(parsed.counters.duplicate_keys) == 1);

  const ParserOptions reject{.duplicate_keys = DuplicateKeyPolicy::reject};
  CHECK(code_of(R"({"x":1,"y":2,"x":1})", reject) == "duplicate_key");
  CHECK(code_of(R"({"x":1,"\u0078":1})", reject) == "duplicate_key");
  CHECK(code_of(R"({"":1,"":1})", reject) == "duplicate_key");
  CHECK(code_of(R"({"x":1,"y":{"x":1,"x":2},"":0})", reject) == "accepted");  // only at the top
  CHECK(code_of(object_with_keys(1000), reject) == "accepted");
}

TEST_CASE(
    "event parser: an earlier duplicate of a known key is nowhere, even if only it would fit") {
  Parsed parsed(R"({"source":"a","source":7})");
  CHECK(parsed.one(Field::source) == "missing");
  CHECK(parsed.extra() == "\"source\":7");
  CHECK(Parsed(R"({"source":7,"source":"a"})").extra().empty());
}

TEST_CASE("event parser: a known field that does not fit goes to extra and is counted") {
  const struct {
    std::string member;
    KnownField field;
  } cases[] = {
      {"\"type\":1", KnownField::type},
      {"\"type\":\"\"", KnownField::type},
      {"\"type\":\"" + std::string(201, 't') + "\"", KnownField::type},
      {R"("type":"a\u0000b")", KnownField::type},
      {R"("type":"a\nb")", KnownField::type},
      {"\"type\":\"a\x7f\"", KnownField::type},
      {"\"type\":{}", KnownField::type},
      {"\"id\":7", KnownField::id},
      {"\"id\":\"order-7\"", KnownField::id},
      {"\"id\":[]", KnownField::id},
      {"\"source\":1", KnownField::source},
      {"\"session_id\":true", KnownField::session_id},
      {"\"parent_id\":\"none\"", KnownField::parent_id},
      {"\"parent_id\":1", KnownField::parent_id},
      {"\"time\":\"now\"", KnownField::time},
      {"\"time\":\"infinity\"", KnownField::time},
      {"\"time\":\"2026-02-30T00:00:00Z\"", KnownField::time},
      {"\"time\":\"2026-01-01T00:00:00\"", KnownField::time},
      {"\"time\":-1", KnownField::time},
      {"\"time\":true", KnownField::time},
      {"\"ts\":[]", KnownField::time},
  };
  for (const auto& c : cases) {
    CAPTURE(c.member);
    Parsed parsed("{" + c.member + "}");
    CHECK(parsed.extra() == c.member);
    CHECK(parsed.one(Field::type) == "\"log\"");
    CHECK(parsed.header().occurred_us == kReceivedUs);
    CHECK_FALSE(parsed.has_flag(sluice::spool::kHasId));
    for (std::size_t i = 0; i < kKnownFieldCount; ++i) {
      CHECK(count_of(parsed.counters.misfits[i]) == (i == static_cast<std::size_t>(c.field)));
    }
    CHECK(code_of("{" + c.member + "}", {.misfit = MisfitPolicy::reject}) == "misfit");
  }
}

TEST_CASE("event parser: type may have 1 to 200 bytes") {
  CHECK(Parsed(R"({"type":"t"})").one(Field::type) == "\"t\"");
  const std::string longest = "\"" + std::string(200, 't') + "\"";
  CHECK(Parsed("{\"type\":" + longest + "}").one(Field::type) == longest);
  Parsed escaped(R"({"type":"a\"b"})");
  CHECK(escaped.one(Field::type) == R"("a\"b")");
  CHECK(escaped.kind(Field::type) == ValueKind::escaped_string);
}

TEST_CASE("event parser: without a default type the event's is required") {
  const ParserOptions options{.default_type = ""};
  CHECK(code_of("{}", options) == "schema");
  CHECK(code_of(R"({"type":7})", options) == "schema");
  CHECK(code_of(R"({"type":null})", options) == "schema");
  CHECK(code_of(R"({"type":"a"})", options) == "accepted");
  CHECK(Parsed("{}", {.default_type = "a\"b"}).one(Field::type) == R"("a\"b")");
  CHECK(Parsed("{}", {.default_type = "a\"b"}).kind(Field::type) == ValueKind::escaped_string);
}

TEST_CASE("event parser: a known field that is null is missing") {
  Parsed parsed(R"({"type":null,"id":null,"source":null,"session_id":null,"parent_id":null,)"
                R"("dedupe_key":null,"time":null,"data":null})");
  CHECK(parsed.code() == "accepted");
  CHECK(parsed.event().fields().size() == 2);  // the default type, and data
  CHECK(parsed.one(Field::data) == "null");
  CHECK(parsed.header().flags == 0);
  for (const Count& misfits : parsed.counters.misfits) CHECK(count_of(misfits) == 0);
}

TEST_CASE("event parser: time is the first of the time fields that is there") {
  Parsed first(R"({"ts":1,"timestamp":2,"x":0})");
  CHECK(first.header().occurred_us == 2'000'000);
  CHECK(first.all(Field::extra) == Texts{"\"ts\":1", "\"x\":0"});
  CHECK(Parsed(R"({"ts":5})").header().occurred_us == 5'000'000);
  CHECK(Parsed(R"({"@timestamp":"1970-01-01T00:00:07Z"})").header().occurred_us == 7'000'000);
  CHECK(Parsed(R"({"time":null,"ts":5})").header().occurred_us == 5'000'000);

  Parsed unreadable(R"({"time":"now","ts":5})");
  CHECK(unreadable.header().occurred_us == kReceivedUs);
  CHECK(unreadable.all(Field::extra) == Texts{R"("time":"now","ts":5)"});

  Parsed other(R"({"time":1,"when":2})", {.time_fields = {"when"}});
  CHECK(other.header().occurred_us == 2'000'000);
  CHECK(other.extra() == "\"time\":1");
}

TEST_CASE("event parser: an escaped time is read by its value") {
  CHECK(Parsed(R"({"time":"1970-01-01\u005400:00:01Z"})").header().occurred_us == 1'000'000);
}

TEST_CASE("event parser: times more than a day away are counted as skewed") {
  Parsed parser;
  parser.parse(R"({"time":"2026-01-02T00:00:00Z"})");
  parser.parse(R"({"time":"2025-12-31T00:00:00Z"})");
  CHECK(count_of(parser.counters.time_skew) == 0);
  parser.parse(R"({"time":"2026-01-02T00:00:00.000001Z"})");
  parser.parse(R"({"time":"2025-12-30T23:59:59.999999Z"})");
  CHECK(count_of(parser.counters.time_skew) == 2);
}

TEST_CASE("event parser: another spelling of an id is the same id") {
  Parsed parser;
  parser.parse("{\"id\":\"" + kUuid + "\"}");
  const auto header = parser.header();
  CHECK(parser.has_flag(sluice::spool::kHasIdKey));
  std::string upper = kUuid;
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](char c) { return c >= 'a' && c <= 'f' ? static_cast<char>(c - 32) : c; });
  parser.parse("{\"id\":\"" + upper + "\"}");
  CHECK(parser.header().id == header.id);
  CHECK(parser.header().dedupe_hash[0] == header.dedupe_hash[0]);
  CHECK(parser.header().dedupe_hash[1] != header.dedupe_hash[1]);  // another line
  parser.parse("{\"id\":\"" + kUuid + "\"}");
  CHECK(parser.header().dedupe_hash[1] == header.dedupe_hash[1]);
}

TEST_CASE("event parser: an id that is no UUID still serves dedupe") {
  Parsed parser;
  parser.parse(R"({"id":"order-7","x":1})");
  CHECK(parser.has_flag(sluice::spool::kHasIdKey));
  const auto header = parser.header();
  parser.parse(R"({"id":"order-7","x":2})");
  CHECK(parser.header().dedupe_hash[0] == header.dedupe_hash[0]);
  CHECK(parser.header().dedupe_hash[1] != header.dedupe_hash[1]);
  parser.parse(R"({"id":"order-8","x":1})");
  CHECK(parser.header().dedupe_hash[0] != header.dedupe_hash[0]);
}

TEST_CASE("event parser: a dedupe key is hashed by its value, its producer's uid and the secret") {
  Parsed parser;
  const auto hash = [](Parsed& from, const std::string& line, std::uint32_t uid) {
    from.parse(line, uid);
    return std::pair(from.header().dedupe_hash[0], from.header().dedupe_hash[1]);
  };
  const auto key = hash(parser, R"({"dedupe_key":"k1","x":1})", 1000);
  CHECK(hash(parser, R"({"x":2,"dedupe_key":"\u006b1"})", 1000) == key);
  CHECK(hash(parser, R"({"dedupe_key":"k2"})", 1000) != key);
  CHECK(hash(parser, R"({"dedupe_key":"k1"})", 1001) != key);
  Parsed other_secret({.dedupe_seed = 1});
  CHECK(hash(other_secret, R"({"dedupe_key":"k1"})", 1000) != key);
  Parsed global({.dedupe_by_uid = false});
  CHECK(hash(global, R"({"dedupe_key":"k1"})", 1) == hash(global, R"({"dedupe_key":"k1"})", 2));
}

TEST_CASE("event parser: the NUL escape by each policy") {
  const std::string line = R"({"a":"x\u0000y"})";
  Parsed replace(line);
  CHECK(replace.has_flag(sluice::spool::kReplaceNul));
  CHECK_FALSE(replace.has_flag(sluice::spool::kStripNul));
  CHECK(count_of(replace.counters.nul_mended) == 1);
  Parsed strip(line, {.nul = NulPolicy::strip});
  CHECK(strip.has_flag(sluice::spool::kStripNul));
  CHECK_FALSE(strip.has_flag(sluice::spool::kReplaceNul));
  CHECK(code_of(line, {.nul = NulPolicy::reject}) == "nul");
  CHECK(code_of(R"({"x\u0000":1})", {.nul = NulPolicy::reject}) == "nul");
  Parsed literal(R"({"a":"x\\u0000y"})", {.nul = NulPolicy::reject});
  CHECK(literal.header().flags == 0);
}

TEST_CASE("event parser: text that is not Unicode by each policy") {
  const Texts texts = {"\xC3\x28",         "\xC0\x80",         "\xE0\x80\x80", "\xED\xA0\x80",
                       "\xF4\x90\x80\x80", "\xF8\x88\x80\x80", "\xFF",         "\x80",
                       "\xE2\x82",         R"(\ud800)",        R"(\udc00)",    R"(\ude00\ud83d)"};
  for (const std::string& text : texts) {
    CAPTURE(text);
    const std::string line = "{\"a\":\"0123456789abcdef" + text + "\",\"b\":1}";
    Parsed parsed(line);
    CHECK(parsed.code() == "accepted");
    CHECK(parsed.has_flag(sluice::spool::kReplaceText));
    CHECK(count_of(parsed.counters.text_mended) == 1);
    CHECK(parsed.extra() == line.substr(1, line.size() - 2));
    CHECK(code_of(line, {.text = TextPolicy::reject}) == "bad_utf8");
  }
  Parsed good("{\"a\":\"\xC3\xA9\xF0\x9F\x98\x80\\ud83d\\ude00\"}", {.text = TextPolicy::reject});
  CHECK(good.code() == "accepted");
  CHECK(good.header().flags == 0);
}

TEST_CASE("event parser: only what is stored counts as mended") {
  Parsed parser;
  CHECK(parser.parse("{\"a\":\"\\u0000\xFF\"").code() == "syntax");
  CHECK(count_of(parser.counters.nul_mended) == 0);
  CHECK(count_of(parser.counters.text_mended) == 0);
}

TEST_CASE("event parser: every beginning of a good line is refused") {
  const std::string line =
      R"( { "t\u0079pe" : "a" , "id" :")" + kUuid +
      R"(" ,"data":{"x":[1,-2.5e3,"\ud83d\ude00",null,true,false]} , "time": 1.5 , "z" : {} })";
  Parsed parser;
  REQUIRE(parser.parse(line).code() == "accepted");
  for (std::size_t size = 0; size < line.size(); ++size) {
    CAPTURE(size);
    CHECK(parser.parse(line.substr(0, size)).code() == "syntax");
  }
}

TEST_CASE("event parser: any one byte changed is read or refused, never more") {
  const std::string line =
      R"({"t\u0079pe":"a","id":")" + kUuid + R"(","data":{"x":[1,"\ud83d\ude00"]},"z" : {} })";
  Parsed parser;
  std::size_t accepted = 0;
  for (std::size_t at = 0; at < line.size(); ++at) {
    for (int value = 0; value < 256; ++value) {
      std::string changed = line;
      changed[at] = static_cast<char>(value);
      if (parser.parse(changed).code() == "accepted") ++accepted;
    }
  }
  CHECK(accepted > line.size());
}

namespace {

// Random objects whose members' raw text is known because it was put there piece by piece.
class RandomObject {
 public:
  struct Member {
    std::string key;  // decoded
    std::string value;
    bool is_string;
    std::size_t begin;  // of the raw key in the line
    std::size_t end;    // of the raw value
  };

  explicit RandomObject(std::mt19937_64& random) : random_(random) {
    line = space() + "{" + space();
    const std::uint64_t count = random_() % 9;
    for (std::uint64_t i = 0; i < count; ++i) {
      if (i > 0) line += "," + space();
      add_member();
      line += space();
    }
    line += "}" + space();
  }

  std::string line;
  std::vector<Member> members;

 private:
  std::string pick(const Texts& from) { return from[random_() % from.size()]; }
  std::string space() { return pick({"", "", "", " ", "\t", "  \r", " \t \t "}); }

  void add_member() {
    const std::string key = pick({"data", "source", "session_id", "a", "b", "c", "}", ",", "log"});
    Member member{key, "", false, line.size(), 0};
    line += spelled(key) + space() + ":" + space();
    const bool is_text = random_() % 2 == 0;
    member.value = is_text ? string() : value(0);
    member.is_string = member.value[0] == '"';
    line += member.value;
    member.end = line.size();
    members.push_back(member);
  }

  std::string spelled(const std::string& key) {
    if (random_() % 4 != 0) return "\"" + key + "\"";
    const char* const digits = "0123456789abcdef";
    const auto first = static_cast<unsigned char>(key[0]);
    return "\"\\u00"s + digits[first >> 4] + digits[first & 15] + key.substr(1) + "\"";
  }
  std::string string() {
    std::string text = "\"";
    const std::uint64_t pieces = random_() % 8;
    for (std::uint64_t i = 0; i < pieces; ++i) {
      text += pick({"\\\"", "\\\\", "}", "{", ",", ":", "abc", "\xC3\xA9", "\\u00e9", "\\n", " ",
                    "0123456789abcdef", "\\ud83d\\ude00", "]", "data"});
    }
    return text + "\"";
  }
  std::string value(int depth) {
    switch (random_() % (depth < 4 ? 8 : 6)) {
      case 0:
        return pick({"null", "true", "false"});
      case 1:
        return pick({"0", "-0", "1.50", "-2e-3", "12345678901234567890123", "1E+5"});
      case 2:
      case 3:
        return pick({"{}", "[]", "{ }", "[ ]"});
      case 4:
      case 5:
        return string();
      case 6:
        return "[" + space() + value(depth + 1) + space() + "," + value(depth + 1) + "]";
      default:
        return "{" + space() + string() + ":" + space() + value(depth + 1) + "}";
    }
  }

  std::mt19937_64& random_;
};

// The runs of extra as they have to be, found member by member.
Texts expected_runs(const RandomObject& object) {
  std::map<std::string, std::size_t> last;
  for (std::size_t i = 0; i < object.members.size(); ++i) last[object.members[i].key] = i;
  Texts runs;
  std::size_t run_begin = 0;
  bool in_run = false;
  for (std::size_t i = 0; i < object.members.size(); ++i) {
    const auto& member = object.members[i];
    const bool is_text = member.key == "source" || member.key == "session_id";
    const bool misfits =
        is_text && last[member.key] == i && !member.is_string && member.value != "null";
    if ((is_text && !misfits) || member.key == "data") {
      in_run = false;
      continue;
    }
    if (!in_run) run_begin = member.begin;
    if (in_run) runs.pop_back();
    runs.push_back(object.line.substr(run_begin, member.end - run_begin));
    in_run = true;
  }
  return runs;
}

std::string expected_field(const RandomObject& object, const std::string& key) {
  std::string text = "missing";
  for (const auto& member : object.members) {
    if (member.key != key) continue;
    text = member.is_string || key == "data" ? member.value : "missing";
  }
  return text;
}

}  // namespace

TEST_CASE("event parser: spans of random objects cut exactly the members' raw text") {
  const std::uint64_t seed = std::random_device{}();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  Parsed parser;
  for (int i = 0; i < 10'000; ++i) {
    const RandomObject object(random);
    CAPTURE(object.line);
    parser.parse(object.line);
    if (parser.code() != "accepted") FAIL(parser.code());
    if (parser.all(Field::extra) != expected_runs(object)) FAIL(parser.extra());
    for (const auto& [key, field] :
         {std::pair("data", Field::data), std::pair("source", Field::source),
          std::pair("session_id", Field::session_id)}) {
      if (parser.one(field) != expected_field(object, key)) FAIL(key << ": " << parser.one(field));
    }
  }
}

TEST_CASE("event parser: a record keeps how far behind its chunk's first line it came") {
  IngestCounters counters;
  EventParser parser({}, counters);
  ByteBudget budget(1 << 20);
  Chunk chunk(budget, 1024);
  for (const std::uint32_t delta : {0u, 1u, 65'536u, sluice::spool::kLineDeltaMax}) {
    const std::size_t at = chunk.bytes().size();
    REQUIRE_FALSE(parser.parse("{}", {kReceivedUs, 1000, delta}, chunk));
    CHECK(sluice::spool::line_delta(EventView(chunk.bytes().data() + at).header()) == delta);
  }
}

TEST_CASE("event parser: the members of a line's object can be looked at, strings decoded") {
  IngestCounters counters;
  EventParser parser({}, counters);
  const std::string line = R"({ "a" : "x\u0041y" , "b":-1.50,"c":{"d":[1]} ,"e":null,"a":true})";
  const auto members = parser.members(line);
  REQUIRE(members);
  Texts texts;
  for (const TopMember& member : *members) {
    texts.push_back(std::string(member.key) + "=" + std::string(member.value));
  }
  CHECK(texts == Texts{"a=xAy", "b=-1.50", R"(c={"d":[1]})", "e=null", "a=true"});
  CHECK((*members)[0].kind == ValueKind::escaped_string);
  CHECK((*members)[1].kind == ValueKind::number);
  CHECK(parser.members("{}")->empty());
  for (const char* refused : {"[1]", "{", "{} {}", "7", R"({"a":NaN})"}) {
    CHECK_FALSE(parser.members(refused));
  }
}
