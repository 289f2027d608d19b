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
#include "sink/merge_plan.hpp"
#include "sink/route.hpp"
#include "sink/route_choice.hpp"
#include "spool/event_record.hpp"

namespace sluice::sink {

// So many pieces in a row have to be merged without meeting a taken key before a table of mode
// "merge" is sent one by plain COPY, which costs the server two thirds of a merge. One that fails
// then costs a part of a ninth piece.
inline constexpr std::uint32_t kMergesBeforeCopy = 8;

struct RouteTable {
  RouteTable(Route from, std::size_t place);

  [[nodiscard]] CopyTarget copy_target() const {
    return {route.table, columns, encoder->format(), is_merging ? &*plan : nullptr};
  }
  // The piece under way has no row for it yet, and begins at this index of its segment.
  void begin_piece(std::uint64_t from) {
    buffer.clear();
    rows = 0;
    indexes.clear();
    is_merging = merges_due > 0 || from < merges_below;
  }
  // The piece under way was merged.
  void merged(bool met_taken_key);
  // The piece under way was refused. True: it is to be merged, together with all that begins below
  // this index of the segment, and only what fails then is refused.
  [[nodiscard]] bool merges_instead(const Failure& failure, std::uint64_t below);

  const Route route;
  const std::size_t place;                 // among the routes, from 1
  const std::vector<std::string> columns;  // names
  std::optional<CopyEncoder> encoder;      // of the table as the catalog had it last
  std::optional<Failure> closed;           // why there is no encoder: the table does not fit
  std::string skipping_triggers;           // as CatalogTable has them
  bool refers_to_others = false;           // by a foreign key to another route's table
  std::optional<MergePlan> plan;           // none: nothing can be merged
  std::uint64_t merges_below = 0;          // pieces that begin below this index of the segment
  bool may_copy = false;                   // in mode "merge": plain COPY does as merging does
  std::uint32_t merges_due = 0;            // pieces, before the next plain COPY is tried
  std::uint64_t probe = 0;  // that row of the segment is to be tried before the route is held
  CopyBuffer buffer;        // encoded rows that were not handed over yet
  // Of the piece under way: the batch, or a part of it.
  std::uint64_t rows = 0;
  std::vector<std::uint64_t> indexes;  // the rows' events, in their segment
  bool is_merging = false;
};

// Thread: the sink's.
class RouteTables final {
 public:
  // REQUIRES: one route at least.
  explicit RouteTables(std::vector<Route> routes);

  // Of the tables, as routes name them: what has to be asked for in the catalog.
  [[nodiscard]] std::span<const std::string> names() const { return names_; }
  // Fits the routes to what the catalog has of names(). The failure, to hold on, of the first that
  // does not fit; those that do may be used all the same.
  [[nodiscard]] std::optional<Failure> bind(const Catalog& catalog);

  // The table of the first route that matches the event's type; null: there is none.
  [[nodiscard]] RouteTable* find(const spool::EventView& event);

  // How many rows of the piece stand for events up to this one.
  [[nodiscard]] std::uint64_t rows_upto(std::uint64_t index) const;

  // Those that others refer to by foreign keys come first.
  // REQUIRES: bind() was called.
  [[nodiscard]] std::span<RouteTable* const> in_order_of_references() const { return order_; }
  [[nodiscard]] bool are_all_closed() const;
  [[nodiscard]] bool is_single() const { return tables_.size() == 1; }
  [[nodiscard]] RouteTable& front() { return tables_.front(); }
  void begin_piece(std::uint64_t from);
  // Another segment: what is known of the one before is of no use.
  void begin_segment();

 private:
  void order_by_references(const Catalog& catalog);

  std::vector<RouteTable> tables_;  // one for each route, in their order
  std::vector<std::string> names_;
  std::vector<RouteTable*> order_;
  RouteChoice choice_;
};

}  // namespace sluice::sink
