// Rows of routes with members, pointers, constants and the daemon's values, in both formats.
#include <catch2/catch.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ingest/event_parser.hpp"
#include "sink/copy_encoder.hpp"

namespace sluice::sink {
namespace {

constexpr std::int64_t kReceivedUs = 1'767'225'600'000'000;  // 2026-01-01

const spool::Position kPosition{*spool::Uuid::parse("01234567-89ab-cdef-0123-456789abcdef"), 42};

// The record that ingest makes of a line.
class Parsed {
 public:
  explicit Parsed(std::string_view line, ingest::ParserOptions options = {}) {
    ingest::IngestCounters counters;
    ingest::EventParser parser(std::move(options), counters);
    const auto refusal = parser.parse(line, {.received_us = kReceivedUs, .uid = 1000}, chunk_);
    if (refusal) FAIL("the line is refused: " << line);
  }
  [[nodiscard]] spool::EventView view() const { return spool::EventView(chunk_.bytes().data()); }

 private:
  spool::ByteBudget budget_{std::size_t{64} << 20};
  spool::Chunk chunk_{budget_, 512};
};

// A column that makes its row go in text format.
const Column kInet{"net", Source::member, "no such member"};
constexpr BoundColumn kOther{ColumnType::other};

std::string bytes_of(const CopyBuffer& buffer) {
  return {reinterpret_cast<const char*>(buffer.bytes().data()), buffer.size()};
}

// The first column's field in text format, or the SQLSTATE that it is refused with.
std::string in_text(const std::vector<Column>& columns, std::vector<BoundColumn> bound,
                    const Parsed& event) {
  std::vector<Column> all = columns;
  all.push_back(kInet);
  bound.push_back(kOther);
  const CopyEncoder encoder(all, bound);
  CHECK(encoder.format() == CopyFormat::text);
  CopyBuffer buffer;
  if (const auto error = encoder.append_row(event.view(), kPosition, buffer)) {
    CHECK(buffer.empty());
    return error->sqlstate;
  }
  const std::string row = bytes_of(buffer);
  REQUIRE(row.ends_with("\t\\N\n"));
  return row.substr(0, row.find('\t'));
}

// The first column's field in binary format; "NULL", or the SQLSTATE that it is refused with.
std::string in_binary(const std::vector<Column>& columns, const std::vector<BoundColumn>& bound,
                      const Parsed& event) {
  const CopyEncoder encoder(columns, bound);
  CHECK(encoder.format() == CopyFormat::binary);
  CopyBuffer buffer;
  if (const auto error = encoder.append_row(event.view(), kPosition, buffer)) {
    CHECK(buffer.empty());
    return error->sqlstate;
  }
  const std::string row = bytes_of(buffer);
  std::size_t size = 0;
  for (std::size_t i = 2; i < 6; ++i) size = size << 8 | static_cast<unsigned char>(row.at(i));
  if (size == 0xffffffff) return "NULL";
  return row.substr(6, size);
}

std::string binary(const Column& column, ColumnType type, std::string_view line) {
  return in_binary({column}, {{type}}, Parsed(line));
}
std::string text(const Column& column, const BoundColumn& bound, std::string_view line) {
  return in_text({column}, {bound}, Parsed(line));
}
std::string text(const Column& column, ColumnType type, std::string_view line) {
  return text(column, BoundColumn{type}, line);
}

std::string line_with(std::string_view value) {
  return R"({"type":"t","v":)" + std::string(value) + "}";
}

const Column kMember{"c", Source::member, "v"};

// The same value in both formats, as text: only for types whose binary form is their text.
std::string both(const Column& column, ColumnType type, std::string_view line) {
  const std::string plain = binary(column, type, line);
  CHECK(text(column, type, line) == plain);
  return plain;
}

// What is left for `extra` where the route has these columns beside it.
std::string extra(std::vector<Column> columns, std::string_view line,
                  ingest::ParserOptions options = {}) {
  columns.insert(columns.begin(), {"extra", Source::extra});
  const std::vector<BoundColumn> bound(columns.size(), {ColumnType::text});
  const Parsed event(line, options);
  const std::string plain = in_binary(columns, bound, event);
  std::string escaped = in_text(columns, bound, event);
  for (std::size_t at = 0; (at = escaped.find("\\\\", at)) != std::string::npos; ++at) {
    escaped.erase(at, 1);
  }
  CHECK(escaped == (plain == "NULL" ? "\\N" : plain));
  return plain;
}

}  // namespace

TEST_CASE("route row: members, pointers into data, and pointers into members are found") {
  const std::string_view line =
      R"({"type":"t","data":{"cost":{"usd":1.50},"tags":["a","b"]},"host":{"name":"h"},"pid":7})";
  CHECK(both({"c", Source::member, "pid"}, ColumnType::text, line) == "7");
  CHECK(both({"c", Source::pointer, "/data/cost/usd"}, ColumnType::text, line) == "1.50");
  CHECK(both({"c", Source::pointer, "/data/tags/1"}, ColumnType::text, line) == "b");
  CHECK(both({"c", Source::pointer, "/host/name"}, ColumnType::text, line) == "h");
  CHECK(both({"c", Source::pointer, "/data/cost"}, ColumnType::json, line) == R"({"usd":1.50})");
  CHECK(binary({"c", Source::pointer, "/data/none"}, ColumnType::text, line) == "NULL");
  CHECK(text({"c", Source::pointer, "/data/none"}, ColumnType::text, line) == "\\N");
  CHECK(binary({"c", Source::pointer, "/type/x"}, ColumnType::text, line) == "NULL");
}

TEST_CASE("route row: several columns may take the same value") {
  const std::vector<Column> columns(5, Column{"c", Source::pointer, "/data/s"});
  const std::string value(10'000, 'x');
  const Parsed event(R"({"data":{"s":")" + value + R"("}})");
  const std::vector<BoundColumn> bound(5, {ColumnType::text});
  CHECK(in_binary(columns, bound, event) == value);
  CHECK(in_text(columns, bound, event) == value);
}

TEST_CASE("route row: the daemon's values go into columns of several types") {
  const std::string_view line = R"({"type":"t","time":"2026-01-02T03:04:05.000006Z"})";
  const std::string moment = "2026-01-02T03:04:05.000006Z";
  CHECK(both({"c", Source::occurred_at}, ColumnType::text, line) == moment);
  CHECK(text({"c", Source::occurred_at}, ColumnType::timestamptz, line) == moment);
  CHECK(text({"c", Source::occurred_at}, ColumnType::date, line) == "2026-01-02");
  CHECK(both({"c", Source::received_at}, ColumnType::json, line) ==
        "\"2026-01-01T00:00:00.000000Z\"");
  CHECK(both({"c", Source::segment}, ColumnType::text, line) ==
        "01234567-89ab-cdef-0123-456789abcdef");
  CHECK(binary({"c", Source::segment}, ColumnType::uuid, line) ==
        std::string("\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef", 16));
  CHECK(binary({"c", Source::index}, ColumnType::int4, line) == std::string("\0\0\0\x2a", 4));
  CHECK(both({"c", Source::index}, ColumnType::text, line) == "42");
  CHECK(both({"c", Source::uid}, ColumnType::text, line) == "1000");
  CHECK(binary({"c", Source::uid}, ColumnType::int4, line) == std::string("\0\0\x03\xe8", 4));
  CHECK(both({"c", Source::line}, ColumnType::text, line) == line);
}

TEST_CASE("route row: a constant is the same in each row") {
  const std::string_view line = "{}";
  CHECK(binary({"c", Source::constant, "\"eu\\n1\""}, ColumnType::json, line) == "\"eu\\n1\"");
  CHECK(binary({"c", Source::constant, "\"eu\\n1\""}, ColumnType::text, line) == "eu\n1");
  CHECK(text({"c", Source::constant, "\"eu\\n1\""}, ColumnType::text, line) == "eu\\n1");
  CHECK(binary({"c", Source::constant, "7"}, ColumnType::int2, line) == std::string("\0\x07", 2));
  CHECK(text({"c", Source::constant, "[1,2]"}, {ColumnType::int4, true}, line) == "{\"1\",\"2\"}");
  CHECK(constant_misfit("\"x\"", {ColumnType::int4}) == Misfit::wrong_type);
  CHECK(constant_misfit("70000", {ColumnType::int2}) == Misfit::out_of_range);
  CHECK(constant_misfit("\"now\"", {ColumnType::timestamptz}) == Misfit::bad_time);
  CHECK(constant_misfit("7", {ColumnType::int2}) == Misfit::none);
}

TEST_CASE("route row: a required value that is missing or null refuses the event") {
  const Column required{"c", Source::member, "v", true};
  const Column pointer{"c", Source::pointer, "/data/v", true};
  for (const char* line : {"{}", R"({"v":null})", R"({"data":{"v":null}})", R"({"data":7})"}) {
    for (const Column& column : {required, pointer}) {
      CHECK(binary(column, ColumnType::jsonb, line) == "23502");
      CHECK(text(column, ColumnType::text, line) == "23502");
    }
  }
  CHECK(binary({"c", Source::extra, "", true}, ColumnType::jsonb, "{}") == "23502");
  CHECK(binary(required, ColumnType::text, R"({"v":""})") == "");
}

TEST_CASE("route row: text of any kind stands in both formats as what it is") {
  CHECK(text(kMember, ColumnType::text, line_with(R"("a\tb\nc\rd\\e\\.\\N")")) ==
        R"(a\tb\nc\rd\\e\\.\\N)");
  CHECK(text(kMember, ColumnType::text, line_with(R"("\\.")")) == R"(\\.)");
  CHECK(text(kMember, ColumnType::text, line_with(R"("")")) == "");
  CHECK(text(kMember, ColumnType::jsonb, line_with(R"({"a":"\n"})")) == R"({"a":"\\n"})");
  CHECK(binary(kMember, ColumnType::text, line_with(R"("a\tb")")) == "a\tb");
}

TEST_CASE("route row: bad text is mended wherever it is taken from") {
  const std::string line = "{\"v\":\"a\xFF\\u0000\\ud800\",\"data\":{\"v\":\"\xFF\"}}";
  const std::string mended = "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD";
  CHECK(both(kMember, ColumnType::text, line) == mended);
  CHECK(both({"c", Source::pointer, "/data/v"}, ColumnType::text, line) == "\xEF\xBF\xBD");
  CHECK(both({"c", Source::pointer, "/data/v"}, ColumnType::json, line) == "\"\xEF\xBF\xBD\"");
  CHECK(extra({}, line) ==
        "{\"data\":{\"v\":\"\xEF\xBF\xBD\"},\"v\":\"a\xEF\xBF\xBD\\ufffd\\ufffd\"}");
  CHECK(text(kMember, {ColumnType::text, true}, "{\"v\":[\"\xFF\"]}") == "{\"\xEF\xBF\xBD\"}");
}

TEST_CASE("route row: times of the producer's are read before they are passed on") {
  CHECK(text(kMember, ColumnType::timestamptz, line_with(R"("2026-01-01T01:00:00+01:00")")) ==
        "2026-01-01T00:00:00.000000Z");
  CHECK(text(kMember, ColumnType::timestamptz, line_with("1767225600")) ==
        "2026-01-01T00:00:00.000000Z");
  CHECK(text(kMember, ColumnType::timestamp, line_with(R"("1950-01-01T00:00:00")")) ==
        "1950-01-01T00:00:00.000000Z");
  CHECK(text(kMember, ColumnType::date, line_with(R"("1950-02-03")")) == "1950-02-03");
  CHECK(text(kMember, ColumnType::date, line_with(R"("2026-01-01T23:30:00-01:00")")) ==
        "2026-01-02");
  CHECK(binary(kMember, ColumnType::date, line_with(R"("2000-01-02")")) ==
        std::string("\0\0\0\x01", 4));
  CHECK(binary(kMember, ColumnType::timestamp, line_with(R"("2000-01-01T00:00:00.000001")")) ==
        std::string("\0\0\0\0\0\0\0\x01", 8));
  CHECK(binary(kMember, ColumnType::timestamptz, line_with(R"("2000-01-01T00:00:00\u005a")")) ==
        std::string(8, '\0'));
  for (const char* bad : {R"("now")", R"("infinity")", R"("today")", R"("2026-02-30")", "true",
                          R"("")", "{}", R"("0000-01-01T00:00:00Z")"}) {
    CAPTURE(bad);
    for (const auto type : {ColumnType::timestamptz, ColumnType::timestamp, ColumnType::date}) {
      CHECK(binary(kMember, type, line_with(bad)) == "22007");
      CHECK(text(kMember, type, line_with(bad)) == "22007");
    }
  }
  CHECK(binary(kMember, ColumnType::timestamptz, line_with(R"("2026-01-01T00:00:00")")) == "22007");
}

TEST_CASE("route row: no word that means a time reaches a type that would read it") {
  for (const char* bad : {"\"now\"", "\"NOW\"", "\"[now,infinity)\"", R"-("(\"to\\day\",)")-",
                          R"-("[n\"\"ow,)")-", "\"allballs\""}) {
    CAPTURE(bad);
    CHECK(text(kMember, ColumnType::other_time, line_with(bad)) == "22007");
    CHECK(text(kMember, {ColumnType::other_time, true}, line_with(std::string("[") + bad + "]")) ==
          "22007");
  }
  CHECK(text(kMember, {ColumnType::other_time, true}, line_with(R"("{now}")")) == "22007");
  CHECK(text(kMember, {ColumnType::timestamptz, true}, line_with(R"("{now}")")) == "22P02");
  CHECK(text(kMember, {ColumnType::timestamptz, true}, line_with(R"(["now"])")) == "22007");
  CHECK(text(kMember, ColumnType::other_time, line_with(R"("1 day 02:03")")) == "1 day 02:03");
}

TEST_CASE("route row: text format refuses what binary format refuses") {
  struct Case {
    ColumnType type;
    const char* value;
    const char* sqlstate;
  };
  const std::vector<Case> cases = {
      {ColumnType::int2, "32768", "22003"},      {ColumnType::int4, "1.0", "22P02"},
      {ColumnType::int8, "\"17\"", "22P02"},     {ColumnType::numeric, "1e200000", "22003"},
      {ColumnType::numeric, "{}", "22P02"},      {ColumnType::float4, "1e39", "22003"},
      {ColumnType::float8, "true", "22P02"},     {ColumnType::boolean, "1", "22P02"},
      {ColumnType::uuid, "\"not one\"", "22P02"}};
  for (const Case& each : cases) {
    // The parser refuses some of these numbers; the encoder must not rely on it.
    if (std::string_view(each.value) == "1e200000") continue;
    CAPTURE(each.value);
    CHECK(binary(kMember, each.type, line_with(each.value)) == each.sqlstate);
    CHECK(text(kMember, each.type, line_with(each.value)) == each.sqlstate);
  }
  CHECK(text(kMember, ColumnType::float4, line_with("1e-300")) == "0");
  CHECK(text(kMember, ColumnType::float8, line_with("0.1")) == "0.1");
  CHECK(text(kMember, ColumnType::numeric, line_with("1.50")) == "1.50");
  CHECK(text(kMember, ColumnType::boolean, line_with("true")) == "true");
  CHECK(text(kMember, ColumnType::uuid, line_with("\"01ARZ3NDEKTSV4RRFFQ69G5FAV\"")) ==
        "01563e3a-b5d3-d676-4c61-efb99302bd5b");
}

TEST_CASE("route row: JSON arrays become arrays of Postgres") {
  const BoundColumn texts{ColumnType::text, true};
  CHECK(text(kMember, texts, line_with(R"([])")) == "{}");
  CHECK(text(kMember, texts, line_with(R"(["a", null, "NULL", "", "x\"y\\z,{}"])")) ==
        R"({"a",NULL,"NULL","","x\\"y\\\\z,{}"})");
  CHECK(text(kMember, {ColumnType::int4, true}, line_with("[[1,2],[3,4]]")) ==
        R"({{"1","2"},{"3","4"}})");
  CHECK(text(kMember, {ColumnType::int4, true}, line_with("[1,\"x\"]")) == "22P02");
  CHECK(text(kMember, {ColumnType::jsonb, true}, line_with(R"([{"a":[1]},"b",null])")) ==
        R"({"{\\"a\\":[1]}","\\"b\\"","null"})");
  CHECK(text(kMember, {ColumnType::date, true}, line_with(R"(["2026-01-01"])")) ==
        R"({"2026-01-01"})");
  CHECK(text(kMember, texts, line_with(R"("{a,b}")")) == "{a,b}");
  CHECK(text(kMember, texts, line_with("{}")) == "22P02");
  CHECK(text(kMember, texts, line_with("null")) == "\\N");
}

TEST_CASE("extra: everything that no column takes whole is in it") {
  const std::string_view line =
      R"({"type":"t","source":"s","session_id":"x","data":{"a":1},"m":1,"n":2,"dedupe_key":"k"})";
  const Column type{"type", Source::type};
  const Column data{"data", Source::data};
  const Column part{"a", Source::pointer, "/data/a"};
  const Column m{"m", Source::member, "m"};
  const Column n{"n", Source::member, "n"};
  CHECK(
      extra({}, line) ==
      R"({"type":"t","source":"s","session_id":"x","dedupe_key":"k","data":{"a":1},"m":1,"n":2})");
  CHECK(extra({type, data, m}, line) ==
        R"({"source":"s","session_id":"x","dedupe_key":"k","n":2})");
  CHECK(extra({type, part, n}, line) ==
        R"({"source":"s","session_id":"x","dedupe_key":"k","data":{"a":1},"m":1})");
  CHECK(extra({type, data, m, n}, R"({"type":"t","m":1,"n":2})") == "NULL");
  CHECK(extra({type, m}, R"({"a":1 , "m" : 1 , "b":2,"m":3, "type":"t"})") == R"({"a":1,"b":2})");
}

TEST_CASE("extra: a type that the listener gave is not the producer's") {
  CHECK(extra({}, R"({"a":1})") == R"({"a":1})");
  CHECK(extra({}, R"({})") == "NULL");
}

TEST_CASE("extra: an id or a time that the route does not take is kept") {
  const Column id{"id", Source::id};
  const Column time{"time", Source::occurred_at};
  const std::string uuid = "01234567-89ab-cdef-0123-456789abcdef";
  const std::string line = R"({"ts":"2025-01-01T00:00:00Z","id":")" + uuid + R"(","a":1})";
  CHECK(extra({id, time}, line) == R"({"a":1})");
  CHECK(extra({time}, line) == R"({"id":")" + uuid + R"(","a":1})");
  CHECK(extra({id}, line) == R"({"ts":"2025-01-01T00:00:00Z","a":1})");
  // A second one, and one that cannot be read, are there anyway.
  CHECK(extra({}, R"({"ts":"2025-01-01T00:00:00Z","time":"2025-01-01T00:00:00Z"})") ==
        R"({"time":"2025-01-01T00:00:00Z","ts":"2025-01-01T00:00:00Z"})");
  CHECK(extra({time}, R"({"time":"soon"})") == R"({"time":"soon"})");
}

TEST_CASE("extra: a time of which a column takes only the day is kept") {
  const std::vector<Column> columns = {{"extra", Source::extra}, {"day", Source::occurred_at}};
  const Parsed event(R"({"time":"2025-01-01T12:00:00Z"})");
  CHECK(in_binary(columns, {{ColumnType::text}, {ColumnType::date}}, event) ==
        R"({"time":"2025-01-01T12:00:00Z"})");
  CHECK(in_binary(columns, {{ColumnType::text}, {ColumnType::timestamp}}, event) == "NULL");
}

TEST_CASE("extra: of a time that is there twice the last counts") {
  CHECK(extra({}, R"({"time":"2025-01-01T00:00:00Z","ts":1,"ts":2})") ==
        R"({"time":"2025-01-01T00:00:00Z","ts":1,"ts":2})");
}

TEST_CASE("extra: a known field whose value does not fit is in it under its name") {
  const Column session{"session_id", Source::session_id};
  CHECK(extra({session}, R"({"session_id":7,"a":1})") == R"({"session_id":7,"a":1})");
}

TEST_CASE("route: columns are bound by source, type and what the configuration expects") {
  const auto bound = [](Column column, CatalogColumn found) {
    column.name = found.name = "c";
    const Route route{.table = "t", .columns = {column}, .place = "f:1"};
    const auto result = bind_columns(route, std::vector{found});
    if (const auto* failure = std::get_if<Failure>(&result)) return failure->sqlstate;
    return std::string("ok");
  };
  CatalogColumn inet{"c", "inet", std::nullopt};
  CatalogColumn text{"c", "text", ColumnType::text};
  CatalogColumn number{"c", "numeric(10,2)", ColumnType::numeric};
  CatalogColumn moment{"c", "timestamp with time zone", ColumnType::timestamptz};
  CHECK(bound({"", Source::occurred_at}, moment) == "ok");
  CHECK(bound({"", Source::occurred_at}, text) == "ok");
  CHECK(bound({"", Source::occurred_at}, number) == "42804");
  CHECK(bound({"", Source::uid}, number) == "ok");
  CHECK(bound({"", Source::uid}, moment) == "42804");
  CHECK(bound({"", Source::member, "m"}, inet) == "ok");
  CHECK(bound({"", Source::extra}, number) == "42804");
  CHECK(bound({"", Source::constant, "1.5"}, number) == "ok");
  CHECK(bound({"", Source::constant, "\"x\""}, number) == "42804");
  CHECK(bound({"", Source::member, "m", false, "numeric"}, number) == "ok");
  CHECK(bound({"", Source::member, "m", false, "DECIMAL(4, 1)"}, number) == "ok");
  CHECK(bound({"", Source::member, "m", false, "timestamptz"}, moment) == "ok");
  CHECK(bound({"", Source::member, "m", false, "text"}, number) == "42804");
  text.may_insert = false;
  CHECK(bound({"", Source::member, "m"}, text) == "42501");
  moment.is_generated = true;
  CHECK(bound({"", Source::occurred_at}, moment) == "428C9");
}

TEST_CASE("route: a column that does not fit is told with its place in the configuration") {
  const Route route{.table = "t",
                    .columns = {{.name = "c", .source = Source::uid, .place = "sluice.toml:7"}},
                    .place = "sluice.toml:1"};
  const auto failure = std::get<Failure>(bind_columns(route, {}));
  CHECK(failure.sqlstate == "42703");
  CHECK(failure.column == "c");
  CHECK(failure.message == "column \"c\" of table t does not exist (sluice.toml:7)");
}

}  // namespace sluice::sink
