#include "sink/route.hpp"

#include <algorithm>

namespace sluice::sink {
namespace {

bool fits(Source source, ColumnType type) {
  switch (source) {
    case Source::id:
      return type == ColumnType::uuid || type == ColumnType::text;
    case Source::occurred_at:
    case Source::received_at:
      return type == ColumnType::timestamptz;
    case Source::uid:
      return type == ColumnType::int2 || type == ColumnType::int4 || type == ColumnType::int8;
    case Source::extra:
      return type == ColumnType::jsonb || type == ColumnType::text;
    case Source::type:
    case Source::source:
    case Source::session_id:
    case Source::parent_id:
    case Source::dedupe_key:
    case Source::data:
      return type != ColumnType::timestamptz;
    case Source::instance:
    case Source::segment:
    case Source::index:
    case Source::line:
    case Source::member:
    case Source::pointer:
    case Source::constant:
      return false;
  }
  return false;
}

Failure mismatch(const Route& route, const Column& column, const CatalogColumn* found) {
  const std::string place = "column \"" + column.name + "\" of table \"" + route.table + "\"";
  if (found == nullptr) return {"42703", place + " does not exist", column.name};
  return {"42804", place + " has the type " + found->type + ", which its value cannot be sent as",
          column.name};
}

}  // namespace

Route agent_log_route() {
  return {.table = "events",
          .columns = {{"id", Source::id},
                      {"occurred_at", Source::occurred_at},
                      {"type", Source::type},
                      {"source", Source::source},
                      {"session_id", Source::session_id},
                      {"parent_id", Source::parent_id},
                      {"data", Source::data},
                      {"extra", Source::extra},
                      {"received_at", Source::received_at},
                      {"producer_uid", Source::uid},
                      {"dedupe_key", Source::dedupe_key}}};
}

std::variant<std::vector<ColumnType>, Failure> bind_columns(
    const Route& route, std::span<const CatalogColumn> catalog) {
  std::vector<ColumnType> types;
  types.reserve(route.columns.size());
  for (const Column& column : route.columns) {
    const auto found = std::find_if(catalog.begin(), catalog.end(),
                                    [&](const auto& c) { return c.name == column.name; });
    if (found == catalog.end()) return mismatch(route, column, nullptr);
    if (!found->encoder || !fits(column.source, *found->encoder)) {
      return mismatch(route, column, &*found);
    }
    types.push_back(*found->encoder);
  }
  return types;
}

}  // namespace sluice::sink
