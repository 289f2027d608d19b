#include "sink/sql_text.hpp"

#include <catch2/catch.hpp>

using namespace sluice::sink;

TEST_CASE("sql text: a table's name is split at the first dot outside double quotes") {
  const auto quoted = [](const char* text) { return TableName::parse(text).quoted(); };
  CHECK(quoted("events") == "\"events\"");
  CHECK(quoted("Ops.audit log") == "\"Ops\".\"audit log\"");
  CHECK(quoted("\"we.ird\".\"t\"\"x\"") == "\"we.ird\".\"t\"\"x\"");
  CHECK(quoted("select \"x\"") == "\"select \"\"x\"\"\"");
  CHECK(quoted("s.\"a.b\"") == "\"s\".\"a.b\"");
  CHECK(quoted("\"a\"b\"") == "\"\"\"a\"\"b\"\"\"");
  CHECK(quoted("\"") == "\"\"\"\"");
}

TEST_CASE("sql text: literals say the same whatever standard_conforming_strings is") {
  CHECK(quoted_literal("it's") == "'it''s'");
  CHECK(quoted_literal("a\\b'") == " E'a\\\\b'''");
  CHECK(quoted_identifiers(std::vector<std::string>{"a", "b\"c"}) == "\"a\",\"b\"\"c\"");
}
