#include "sink/route_tables.hpp"

#include <algorithm>
#include <utility>
#include <variant>

#include "sink/sql_text.hpp"

namespace sluice::sink {
namespace {

std::vector<std::string> names_of(std::span<const Column> columns) {
  std::vector<std::string> names;
  for (const Column& column : columns) names.push_back(column.name);
  return names;
}

std::optional<Failure> why_closed(const Route& route, const CatalogTable& table,
                                  const std::string& role) {
  const std::string name = TableName::parse(route.table).quoted();
  if (!table.exists) {
    return Failure{"42P01",
                   "table " + name +
                       " does not exist: make it, or, if it is a model's, run: sluice schema apply",
                   ""};
  }
  if (!table.may_insert) {
    return Failure{"42501", concat({"role \"", role, "\" may not INSERT into ", name}), ""};
  }
  if (table.has_row_security && route.mode == RouteMode::append) {
    return Failure{"0A000",
                   concat({"table ", name, " has row-level security, which COPY cannot pass: its ",
                           "route needs mode = \"merge\""}),
                   ""};
  }
  return std::nullopt;
}

bool refers_to_another(const CatalogTable& table, std::span<const CatalogTable> all) {
  return std::any_of(all.begin(), all.end(), [&](const CatalogTable& other) {
    return other.oid != table.oid && std::find(table.refers_to.begin(), table.refers_to.end(),
                                               other.oid) != table.refers_to.end();
  });
}

// `place`: the table's in the catalog.
void fit(RouteTable& table, const CatalogTable& found, const Catalog& catalog, std::size_t place) {
  table.encoder.reset();
  table.plan.reset();
  table.closed = why_closed(table.route, found, catalog.role);
  if (table.closed) return;
  auto bound = bind_columns(table.route, found.columns);
  if (const auto* mismatch = std::get_if<Failure>(&bound)) {
    table.closed = *mismatch;
    return;
  }
  auto plan = plan_merge(table.route, found, catalog, place);
  if (auto* made = std::get_if<MergePlan>(&plan)) {
    table.plan = std::move(*made);
  } else if (table.route.mode == RouteMode::merge) {
    table.closed = std::get<Failure>(std::move(plan));
    return;
  }
  table.encoder.emplace(table.route.columns, std::get<std::vector<BoundColumn>>(bound));
  const bool merges = table.route.mode == RouteMode::merge;
  // A trigger that takes a row away could not be told from one that lost it.
  table.may_copy = merges && !found.has_row_security && found.skipping_triggers.empty();
  table.merges_due = merges ? kMergesBeforeCopy : 0;
}

}  // namespace

RouteTable::RouteTable(Route from, std::size_t number)
    : route(std::move(from)), place(number), columns(names_of(route.columns)) {}

void RouteTable::merged(bool met_taken_key) {
  if (!may_copy) return;
  merges_due = met_taken_key ? kMergesBeforeCopy : merges_due - std::min(merges_due, 1u);
}

bool RouteTable::merges_instead(const Failure& failure, std::uint64_t below) {
  const bool is_first = !is_merging;
  if (route.mode == RouteMode::merge) {
    merges_due = kMergesBeforeCopy;
    return is_first;
  }
  if (failure.sqlstate != "23505" || !is_first || !plan) return false;
  merges_below = below;
  return true;
}

RouteTables::RouteTables(std::vector<Route> routes) : choice_(routes) {
  tables_.reserve(routes.size());
  for (Route& route : routes) {
    names_.push_back(route.table);
    tables_.emplace_back(std::move(route), names_.size());
  }
}

std::optional<Failure> RouteTables::bind(const Catalog& catalog) {
  for (std::size_t i = 0; i < tables_.size(); ++i) {
    RouteTable& table = tables_[i];
    const CatalogTable& found = catalog.tables.at(i);
    fit(table, found, catalog, i);
    table.skipping_triggers = found.skipping_triggers;
    table.refers_to_others = refers_to_another(found, catalog.tables);
  }
  order_by_references(catalog);
  const auto first = std::find_if(tables_.begin(), tables_.end(),
                                  [](const RouteTable& table) { return table.closed; });
  return first == tables_.end() ? std::nullopt : first->closed;
}

// Takes again and again the first table whose references are all taken; of tables that refer to
// each other in a circle simply the first.
void RouteTables::order_by_references(const Catalog& catalog) {
  std::vector<std::size_t> left(tables_.size());
  for (std::size_t i = 0; i < left.size(); ++i) left[i] = i;
  const auto is_free = [&](std::size_t index) {
    const CatalogTable& table = catalog.tables[index];
    return std::none_of(left.begin(), left.end(), [&](std::size_t other) {
      const std::uint32_t oid = catalog.tables[other].oid;
      return oid != table.oid && std::find(table.refers_to.begin(), table.refers_to.end(), oid) !=
                                     table.refers_to.end();
    });
  };
  order_.clear();
  while (!left.empty()) {
    auto next = std::find_if(left.begin(), left.end(), is_free);
    if (next == left.end()) next = left.begin();
    order_.push_back(&tables_[*next]);
    left.erase(next);
  }
}

RouteTable* RouteTables::find(const spool::EventView& event) {
  const auto index = choice_.of(event);
  return index ? &tables_[*index] : nullptr;
}

bool RouteTables::are_all_closed() const {
  return std::all_of(tables_.begin(), tables_.end(),
                     [](const RouteTable& table) { return table.closed; });
}

std::uint64_t RouteTables::rows_upto(std::uint64_t index) const {
  std::uint64_t rows = 0;
  for (const RouteTable& table : tables_) {
    const auto end = std::upper_bound(table.indexes.begin(), table.indexes.end(), index);
    rows += static_cast<std::uint64_t>(end - table.indexes.begin());
  }
  return rows;
}

void RouteTables::begin_piece(std::uint64_t from) {
  for (RouteTable& table : tables_) table.begin_piece(from);
}

void RouteTables::begin_segment() {
  for (RouteTable& table : tables_) table.merges_below = table.probe = 0;
}

}  // namespace sluice::sink
