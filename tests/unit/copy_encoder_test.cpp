// Event records as rows of the binary COPY format.
#include <catch2/catch.hpp>

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "sink/copy_encoder.hpp"
#include "tests/support/record_builder.hpp"

namespace sluice::sink {
namespace {

using spool::Field;
using spool::ValueKind;
using test::RecordBuilder;
using test::SingleRecord;

using Values = std::vector<std::optional<std::string>>;

std::string bytes_of(const CopyBuffer& buffer) {
  return {reinterpret_cast<const char*>(buffer.bytes().data()), buffer.size()};
}

std::uint32_t read_u32(std::string_view bytes) {
  std::uint32_t value = 0;
  for (int i = 0; i < 4; ++i) {
    value = value << 8 | static_cast<unsigned char>(bytes[static_cast<std::size_t>(i)]);
  }
  return value;
}

// Takes one row apart; nothing may be left behind it.
Values parse_row(std::string_view bytes) {
  REQUIRE(bytes.size() >= 2);
  const auto columns =
      static_cast<std::size_t>(read_u32(std::string(2, '\0') + std::string(bytes.substr(0, 2))));
  bytes.remove_prefix(2);
  Values values;
  for (std::size_t i = 0; i < columns; ++i) {
    REQUIRE(bytes.size() >= 4);
    const std::uint32_t size = read_u32(bytes);
    bytes.remove_prefix(4);
    if (size == 0xffffffff) {
      values.emplace_back();
      continue;
    }
    REQUIRE(bytes.size() >= size);
    values.emplace_back(std::string(bytes.substr(0, size)));
    bytes.remove_prefix(size);
  }
  CHECK(bytes.empty());
  return values;
}

const std::vector<BoundColumn> kAgentLogTypes = {
    {ColumnType::uuid},        {ColumnType::timestamptz}, {ColumnType::text},  {ColumnType::text},
    {ColumnType::text},        {ColumnType::uuid},        {ColumnType::jsonb}, {ColumnType::jsonb},
    {ColumnType::timestamptz}, {ColumnType::int8},        {ColumnType::text}};

Values agent_log_row(const RecordBuilder& builder) {
  const SingleRecord record(builder);
  const Route route = agent_log_route();
  const CopyEncoder encoder(route.columns, kAgentLogTypes);
  CopyBuffer buffer;
  REQUIRE_FALSE(encoder.append_row(record.view(), {}, buffer));
  return parse_row(bytes_of(buffer));
}

struct Encoded {
  std::optional<std::string> value;
  std::string sqlstate;  // of a refused value
};

// The field `data` alone, in a column of this type.
Encoded encode(ColumnType type, ValueKind kind, std::string_view raw, unsigned flags = 0) {
  const SingleRecord record(RecordBuilder().field(Field::data, kind, raw).flags(flags));
  const std::vector<Column> columns = {{"data", Source::data}};
  const CopyEncoder encoder(columns, std::vector<BoundColumn>{{type}});
  CopyBuffer buffer;
  if (const auto error = encoder.append_row(record.view(), {}, buffer)) {
    CHECK(error->column == "data");
    CHECK(buffer.empty());
    return {std::nullopt, error->sqlstate};
  }
  return {parse_row(bytes_of(buffer)).at(0), ""};
}

std::string big_endian(std::uint64_t value, int bytes) {
  std::string text;
  for (int i = bytes - 1; i >= 0; --i) text += static_cast<char>(value >> (8 * i) & 0xff);
  return text;
}

std::string number(ColumnType type, std::string_view raw) {
  const Encoded encoded = encode(type, ValueKind::number, raw);
  return encoded.value ? *encoded.value : encoded.sqlstate;
}

}  // namespace

TEST_CASE("copy encoder: header and trailer are those of the format") {
  const CopyEncoder encoder({}, {});
  CHECK(encoder.format() == CopyFormat::binary);
  CopyBuffer buffer;
  encoder.append_header(buffer);
  CHECK(bytes_of(buffer) == std::string("PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0", 19));
  buffer.clear();
  encoder.append_trailer(buffer);
  CHECK(bytes_of(buffer) == "\xff\xff");
}

TEST_CASE("copy encoder: a full event fills every column of the agent log") {
  const std::string parent = "\"01234567-89ab-cdef-0123-456789ABCDEF\"";
  const Values row = agent_log_row(RecordBuilder()
                                       .times(1'000'000'000'000'001, 946'684'800'000'002)
                                       .string(Field::type, "\"tool.call\"")
                                       .string(Field::source, R"("plan\tner \u00e4")")
                                       .string(Field::session_id, "\"s-1\"")
                                       .string(Field::parent_id, parent)
                                       .string(Field::dedupe_key, "\"k\"")
                                       .field(Field::data, ValueKind::object, R"({"n":1.50})")
                                       .field(Field::extra, ValueKind::members, R"("a":1,"b":2)"));
  REQUIRE(row.size() == 11);
  CHECK(row[0] == "\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10");
  CHECK(row[1] == big_endian(1'000'000'000'000'001 - 946'684'800'000'000, 8));
  CHECK(row[2] == "tool.call");
  CHECK(row[3] == "plan\tner \xC3\xA4");
  CHECK(row[4] == "s-1");
  CHECK(row[5] == "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef");
  CHECK(row[6] == "\x01{\"n\":1.50}");
  CHECK(row[7] == "\x01{\"a\":1,\"b\":2}");
  CHECK(row[8] == big_endian(2, 8));
  CHECK(row[9] == big_endian(1000, 8));
  CHECK(row[10] == "k");
}

TEST_CASE("copy encoder: what an event does not have is NULL") {
  const Values row =
      agent_log_row(RecordBuilder().uid(spool::kNoUid).string(Field::type, "\"log\"").times(0, 0));
  CHECK(row[2] == "log");
  for (const std::size_t column : {3u, 4u, 5u, 6u, 7u, 9u, 10u}) CHECK_FALSE(row[column]);
}

TEST_CASE("copy encoder: runs of extra members are joined into one object") {
  const Values row = agent_log_row(RecordBuilder()
                                       .field(Field::extra, ValueKind::members, R"("a":1)")
                                       .string(Field::type, "\"t\"")
                                       .field(Field::extra, ValueKind::members, R"("b":[2,3])")
                                       .field(Field::extra, ValueKind::members, R"("c":"\u0000")")
                                       .flags(spool::kReplaceNul));
  CHECK(row[7] == "\x01{\"a\":1,\"b\":[2,3],\"c\":\"\\ufffd\"}");
}

TEST_CASE("copy encoder: the producer's own id is nobody's column until it becomes extra") {
  const Values row =
      agent_log_row(RecordBuilder().field(Field::id_member, ValueKind::members, R"("id":"x")"));
  for (const std::size_t column : {2u, 3u, 4u, 5u, 6u, 7u, 10u}) CHECK_FALSE(row[column]);
}

TEST_CASE("copy encoder: flags that are not about text leave text alone") {
  const Values row = agent_log_row(RecordBuilder()
                                       .string(Field::source, "\"a\xFF\"")
                                       .flags(spool::kHasId | spool::kHasDedupeKey));
  CHECK(row[3] == "a\xFF");
}

TEST_CASE("copy encoder: mended text may grow, and the buffer with it") {
  const std::string bad(5'000, '\xFF');
  std::string mended;
  for (int i = 0; i < 5'000; ++i) mended += "\xEF\xBF\xBD";
  const std::string literal = '"' + bad + '"';
  CHECK(encode(ColumnType::text, ValueKind::string, literal, spool::kReplaceText).value == mended);
  CHECK(encode(ColumnType::jsonb, ValueKind::string, literal, spool::kReplaceText).value ==
        "\x01\"" + mended + '"');
}

TEST_CASE("copy encoder: a text column takes any JSON value as its text") {
  CHECK(encode(ColumnType::text, ValueKind::number, "1.50").value == "1.50");
  CHECK(encode(ColumnType::text, ValueKind::object, R"({"a":"\n"})").value == R"({"a":"\n"})");
  CHECK(encode(ColumnType::text, ValueKind::string, R"("")").value == "");
  CHECK_FALSE(encode(ColumnType::text, ValueKind::null, "null").value);
}

TEST_CASE("copy encoder: JSON's null is a value in jsonb and NULL elsewhere") {
  CHECK(encode(ColumnType::jsonb, ValueKind::null, "null").value == "\x01null");
  for (const auto type : {ColumnType::uuid, ColumnType::int4, ColumnType::float8,
                          ColumnType::numeric, ColumnType::boolean}) {
    const Encoded encoded = encode(type, ValueKind::null, "null");
    CHECK_FALSE(encoded.value);
    CHECK(encoded.sqlstate.empty());
  }
}

TEST_CASE("copy encoder: integers go as far as their type") {
  CHECK(number(ColumnType::int2, "-32768") == big_endian(0x8000, 2));
  CHECK(number(ColumnType::int2, "32768") == "22003");
  CHECK(number(ColumnType::int4, "2147483647") == big_endian(0x7fffffff, 4));
  CHECK(number(ColumnType::int4, "-2147483649") == "22003");
  CHECK(number(ColumnType::int8, "9223372036854775807") == big_endian(0x7fffffffffffffff, 8));
  CHECK(number(ColumnType::int8, "9223372036854775808") == "22003");
  CHECK(number(ColumnType::int8, "-0") == big_endian(0, 8));
  CHECK(number(ColumnType::int8, "1.0") == "22P02");
  CHECK(number(ColumnType::int8, "1e3") == "22P02");
}

TEST_CASE("copy encoder: floating point numbers are the nearest, or refused as too large") {
  CHECK(number(ColumnType::float8, "0.1") == big_endian(0x3fb999999999999a, 8));
  CHECK(number(ColumnType::float8, "-0") == big_endian(0x8000000000000000, 8));
  CHECK(number(ColumnType::float8, "1e-400") == big_endian(0, 8));
  CHECK(number(ColumnType::float8, "-1e-400") == big_endian(0x8000000000000000, 8));
  CHECK(number(ColumnType::float8, "1e400") == "22003");
  CHECK(number(ColumnType::float4, "0.1") == big_endian(0x3dcccccd, 4));
  CHECK(number(ColumnType::float4, "1e39") == "22003");
}

TEST_CASE("copy encoder: numerics keep their digits") {
  CHECK(number(ColumnType::numeric, "-1.50") == big_endian(2, 2) + big_endian(0, 2) +
                                                    big_endian(0x4000, 2) + big_endian(2, 2) +
                                                    big_endian(1, 2) + big_endian(5000, 2));
  CHECK(number(ColumnType::numeric, "1e200000") == "22003");
}

TEST_CASE("copy encoder: a value of another type is refused with the column's name") {
  for (const auto type :
       {ColumnType::int2, ColumnType::int4, ColumnType::int8, ColumnType::float4,
        ColumnType::float8, ColumnType::numeric, ColumnType::boolean, ColumnType::uuid}) {
    CHECK(encode(type, ValueKind::string, "\"17\"").sqlstate == "22P02");
    CHECK(encode(type, ValueKind::object, "{}").sqlstate == "22P02");
  }
  CHECK(encode(ColumnType::boolean, ValueKind::number, "1").sqlstate == "22P02");
  CHECK(encode(ColumnType::boolean, ValueKind::boolean, "true").value == "\x01");
  CHECK(encode(ColumnType::boolean, ValueKind::boolean, "false").value == std::string(1, '\0'));
}

TEST_CASE("copy encoder: a uuid column takes a UUID, a ULID, and either with escapes") {
  CHECK(encode(ColumnType::uuid, ValueKind::string, "\"01ARZ3NDEKTSV4RRFFQ69G5FAV\"")
            .value.value_or("")
            .size() == 16);
  CHECK(encode(ColumnType::uuid, ValueKind::escaped_string,
               R"("\u0030\u0031234567-89ab-cdef-0123-456789abcdef")")
            .value == "\x01\x23\x45\x67\x89\xab\xcd\xef\x01\x23\x45\x67\x89\xab\xcd\xef");
  CHECK(encode(ColumnType::uuid, ValueKind::string, "\"not one\"").sqlstate == "22P02");
}

TEST_CASE("copy encoder: a refused row leaves the rows before it as they were") {
  const std::vector<Column> columns = {{"source", Source::source}, {"data", Source::data}};
  const CopyEncoder encoder(columns,
                            std::vector<BoundColumn>{{ColumnType::text}, {ColumnType::int4}});
  const auto event = [](std::string_view value) {
    return RecordBuilder()
        .string(Field::source, "\"s\"")
        .field(Field::data, ValueKind::number, value);
  };
  const SingleRecord good(event("1"));
  const SingleRecord bad(event("1.5"));
  CopyBuffer buffer;
  REQUIRE_FALSE(encoder.append_row(good.view(), {}, buffer));
  const std::string before = bytes_of(buffer);
  REQUIRE(encoder.append_row(bad.view(), {}, buffer));
  CHECK(bytes_of(buffer) == before);
}

TEST_CASE("copy encoder: one value may go to several columns") {
  const std::vector<Column> columns = {
      {"a", Source::data}, {"b", Source::data}, {"c", Source::data}, {"d", Source::id}};
  const CopyEncoder encoder(
      columns,
      std::vector<BoundColumn>{
          {ColumnType::jsonb}, {ColumnType::text}, {ColumnType::text}, {ColumnType::text}});
  const std::string literal = '"' + std::string(3'000, 'x') + '"';
  const SingleRecord record(RecordBuilder().string(Field::data, literal));
  CopyBuffer buffer;
  REQUIRE_FALSE(encoder.append_row(record.view(), {}, buffer));
  const Values row = parse_row(bytes_of(buffer));
  CHECK(row[0] == '\x01' + literal);
  CHECK(row[1] == std::string(3'000, 'x'));
  CHECK(row[2] == row[1]);
  CHECK(row[3] == "01020304-0506-0708-090a-0b0c0d0e0f10");
}

TEST_CASE("route: the agent log's columns are bound to the types of its table") {
  std::vector<CatalogColumn> catalog;
  const Route route = agent_log_route();
  for (std::size_t i = 0; i < route.columns.size(); ++i) {
    catalog.push_back({route.columns[i].name, "", kAgentLogTypes[i].type});
  }
  const auto bound = bind_columns(route, catalog);
  REQUIRE(std::holds_alternative<std::vector<BoundColumn>>(bound));
  CHECK(std::get<std::vector<BoundColumn>>(bound) == kAgentLogTypes);

  SECTION("a missing column is named") {
    catalog.pop_back();
    const auto failure = std::get<Failure>(bind_columns(route, catalog));
    CHECK(failure.sqlstate == "42703");
    CHECK(failure.column == "dedupe_key");
  }
  SECTION("a type without an encoder makes the rows go as text") {
    catalog[3] = {"source", "inet", std::nullopt};
    const auto columns = std::get<std::vector<BoundColumn>>(bind_columns(route, catalog));
    CHECK(columns[3].type == ColumnType::other);
    CHECK(CopyEncoder(route.columns, columns).format() == CopyFormat::text);
  }
  SECTION("a generated column takes no value") {
    catalog[3].is_generated = true;
    CHECK(std::get<Failure>(bind_columns(route, catalog)).sqlstate == "428C9");
  }
  SECTION("an id that is no uuid does not fit") {
    catalog[0] = {"id", "bigint", ColumnType::int8};
    CHECK(std::get<Failure>(bind_columns(route, catalog)).sqlstate == "42804");
  }
}

}  // namespace sluice::sink
