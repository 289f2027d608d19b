// The SQL of the models, with names and choices filled in.
#include "config/model.hpp"

#include <catch2/catch.hpp>

using namespace sluice::config;

namespace {

bool holds(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("model: the script is one transaction with every variable filled in") {
  ModelOptions options;
  options.role = "shipper";
  const std::string sql = model_sql(options);
  CHECK(sql.starts_with("BEGIN;\n"));
  CHECK(sql.ends_with("COMMIT;\n"));
  CHECK(holds(sql, "CREATE TABLE IF NOT EXISTS \"public\".events ("));
  CHECK(holds(sql, "CREATE TABLE IF NOT EXISTS \"sluice\".watermark ("));
  CHECK(holds(sql, "GRANT INSERT, SELECT ON \"public\".events TO \"shipper\";"));
  for (const char* variable : {":\"", ":'", ":primary_key", ":partition_by"}) {
    INFO(variable);
    CHECK_FALSE(holds(sql, variable));
  }
}

TEST_CASE("model: without a role nothing is granted") {
  CHECK_FALSE(holds(model_sql(ModelOptions{}), "GRANT "));
}

TEST_CASE("model: a partitioned table's key holds the partition's column") {
  ModelOptions options;
  CHECK(holds(model_sql(options), "PRIMARY KEY (id)\n);"));
  options.partition = Partition::day;
  CHECK(holds(model_sql(options),
              "PRIMARY KEY (id, occurred_at)\n) PARTITION BY RANGE (occurred_at);"));
}

TEST_CASE("model: a model that there is not is refused") {
  ModelOptions options;
  options.model = "no_such";
  CHECK_THROWS_AS(model_sql(options), std::invalid_argument);
}

TEST_CASE("model: every model has its SQL and its grants") {
  ModelOptions options;
  options.role = "shipper";
  for (const std::string& name : model_names()) {
    INFO(name);
    options.model = name;
    const std::string sql = model_sql(options);
    CHECK(holds(sql, "-- " + name + ": "));
    CHECK(holds(sql, "-- What the daemon's role needs of " + name));
  }
}

TEST_CASE("model: names with quotes stay names") {
  ModelOptions options;
  options.schema = "a\"b'c";
  const std::string sql = model_sql(options);
  CHECK(holds(sql, "\"a\"\"b'c\".events"));
  CHECK(holds(sql, "'a\"b''c'"));
}

TEST_CASE("model: a name that holds a variable is filled in once") {
  ModelOptions options;
  options.schema = ":partition_by";
  CHECK(holds(model_sql(options), "\":partition_by\".events"));
}

TEST_CASE("model: names that Postgres cannot have are refused") {
  ModelOptions options;
  options.schema =
      GENERATE(std::string(), std::string("$sluice$"), std::string("a\nb"), std::string(64, 'x'));
  CHECK_THROWS_AS(model_sql(options), std::invalid_argument);
}

TEST_CASE("model: a literal with a backslash reads the same under any setting of the server") {
  CHECK(quoted_literal("a'b") == "'a''b'");
  CHECK(quoted_literal("a\\b") == " E'a\\\\b'");
}
