#include "sink/merge_plan.hpp"

#include <catch2/catch.hpp>

using namespace sluice::sink;
using Catch::Matchers::Contains;

namespace {

const CatalogTable kTable{
    .columns = {{"id", "uuid", ColumnType::uuid}, {"key", "text", ColumnType::text}},
    .unique_keys = {{"t_pkey", {"id"}, "", true, false},
                    {"t_some", {"key"}, "(key IS NOT NULL)", false, false}}};

Route route_of(std::vector<std::string> key, OnConflict on_conflict = OnConflict::compare) {
  return {.table = "s.t",
          .columns = {{"id", Source::id}, {"key", Source::dedupe_key}},
          .mode = RouteMode::merge,
          .on_conflict = on_conflict,
          .key = std::move(key)};
}

MergePlan plan_of(const Route& route, const CatalogTable& table = kTable) {
  auto plan = plan_merge(route, table, {"role", true, {}}, 3);
  if (const auto* failure = std::get_if<Failure>(&plan)) FAIL(failure->message);
  return std::get<MergePlan>(std::move(plan));
}

std::string problem_of(const Route& route, const CatalogTable& table = kTable,
                       bool may_make_temporary = true) {
  const auto plan = plan_merge(route, table, {"role", may_make_temporary, {}}, 3);
  REQUIRE(std::holds_alternative<Failure>(plan));
  return std::get<Failure>(plan).message;
}

}  // namespace

TEST_CASE("merge plan: the conflict target is always named") {
  CHECK_THAT(plan_of(route_of({})).merge, Contains("ON CONFLICT (\"id\") DO NOTHING"));
  CHECK_THAT(plan_of(route_of({"key"})).merge,
             Contains("ON CONFLICT (\"key\") WHERE (key IS NOT NULL) DO NOTHING"));
  CHECK_THAT(plan_of(route_of({}, OnConflict::dead)).merge,
             Contains("ON CONFLICT (\"id\") DO NOTHING"));
}

TEST_CASE("merge plan: rows are added by their key, so that lanes do not wait in a circle") {
  CHECK_THAT(plan_of(route_of({})).merge,
             Contains(" FROM pg_temp.\"sluice_merge_3\" ORDER BY \"id\",ctid ON CONFLICT"));
  CHECK_THAT(plan_of(route_of({}, OnConflict::dead)).merge,
             Contains(" FROM s ORDER BY \"id\",\"sluice row\" ON CONFLICT"));
}

TEST_CASE("merge plan: rows that the database counts stay in the order in which they came") {
  CatalogTable table = kTable;
  table.columns.push_back({.name = "n", .type = "bigint", .encoder = ColumnType::int8});
  table.columns.back().is_counter = true;
  CHECK_THAT(plan_of(route_of({}), table).merge, !Contains("ORDER BY"));
  Route route = route_of({});
  route.columns.push_back({"n", Source::index});  // each has its number
  CHECK_THAT(plan_of(route, table).merge, Contains("ORDER BY"));
}

TEST_CASE("merge plan: what merging needs and lacks is named") {
  CHECK_THAT(problem_of(route_of({"id", "key"})), Contains("no unique index on just the columns"));
  CHECK_THAT(problem_of(route_of({}), kTable, false), Contains("temporary tables"));
  CatalogTable table = kTable;
  table.unique_keys.clear();
  CHECK_THAT(problem_of(route_of({}), table), Contains("no primary key"));
  table = kTable;
  table.columns[1].may_select = false;
  CHECK_THAT(problem_of(route_of({}), table), Contains("may not SELECT \"key\""));
  CHECK(plan_of(route_of({}, OnConflict::skip), table).compare.empty());
  Route route = route_of({});
  route.columns.erase(route.columns.begin());
  CHECK_THAT(problem_of(route), Contains("which the route does not feed"));
}

TEST_CASE("merge plan: where a trigger may change rows, conflicts are told at once") {
  CatalogTable table = kTable;
  CHECK_FALSE(plan_of(route_of({}), table).conflicts_at_once);
  table.skipping_triggers = "lowers";
  CHECK(plan_of(route_of({}), table).conflicts_at_once);
  CHECK_FALSE(plan_of(route_of({}, OnConflict::skip), table).compare.empty());
}
