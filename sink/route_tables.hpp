// The tables that a lane's routes lead to, and the rows that its batch has for each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sink/catalog.hpp"
#include "sink/copy_buffer.hpp"
#include "sink/copy_encoder.hpp"
#include "sink/database.hpp"
#include "sink/route.hpp"
#include "sink/route_choice.hpp"
#include "spool/event_record.hpp"

namespace sluice::sink {

struct RouteTable {
  explicit RouteTable(Route from);

  [[nodiscard]] CopyTarget copy_target() const { return {route.table, columns, encoder->format()}; }
  // The batch under way has no row for it yet.
  void clear() {
    buffer.clear();
    rows = 0;
  }

  const Route route;
  const std::vector<std::string> columns;  // names
  std::optional<CopyEncoder> encoder;      // of the table as the catalog had it last
  std::string skipping_triggers;           // as CatalogTable has them
  bool refers_to_others = false;           // by a foreign key to another route's table
  CopyBuffer buffer;                       // encoded rows that were not handed over yet
  std::uint64_t rows = 0;                  // of the batch under way
};

// Thread: the sink's.
class RouteTables final {
 public:
  // REQUIRES: one route at least.
  explicit RouteTables(std::vector<Route> routes);

  // Of the tables, as routes name them: what has to be asked for in the catalog.
  [[nodiscard]] std::span<const std::string> names() const { return names_; }
  // Fits the routes to what the catalog has of names(). The failure, to hold on, of the first that
  // does not fit; then the tables are of no use.
  [[nodiscard]] std::optional<Failure> bind(const Catalog& catalog);

  // The table of the first route that matches the event's type; null: there is none.
  [[nodiscard]] RouteTable* find(const spool::EventView& event);

  // Those that others refer to by foreign keys come first.
  // REQUIRES: bind() went well.
  [[nodiscard]] std::span<RouteTable* const> in_order_of_references() const { return order_; }
  [[nodiscard]] bool is_single() const { return tables_.size() == 1; }
  [[nodiscard]] RouteTable& front() { return tables_.front(); }
  void clear();

 private:
  void order_by_references(const Catalog& catalog);

  std::vector<RouteTable> tables_;  // one for each route, in their order
  std::vector<std::string> names_;
  std::vector<RouteTable*> order_;
  RouteChoice choice_;
};

}  // namespace sluice::sink
