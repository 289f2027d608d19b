// How rows are merged into a route's table, as SQL: through a temporary table, and ON CONFLICT.
#pragma once

#include <string>
#include <string_view>
#include <variant>

#include "sink/catalog.hpp"
#include "sink/database.hpp"
#include "sink/route.hpp"

namespace sluice::sink {

// What a condition on rows' numbers at the end of MergePlan::compare is about.
inline constexpr std::string_view kMergedRow = "s.\"sluice row\"";

// The conflict target is always named: without it, rows that meet any other constraint would
// vanish.
//
// Rows are compared bit by bit: the same event makes the same bytes, and so nothing is asked of the
// columns' types. What the daemon adds by itself (times of receipt, identity in the spool) is no
// part of that.
struct MergePlan {
  std::string temporary;  // the table, quoted
  std::string make;       // makes it, for one transaction
  std::string make_if_missing;
  // Moves its rows into the route's table. Returns how many were added; where conflicts_at_once,
  // also the others, as an array of numbers of rows, from 1.
  std::string merge;
  // Returns each row that is not in the route's table as it should be: its number, whether the key
  // is there, and whether the stored row agrees in the columns that an event always has from its
  // producer, in the ids, and in the times of the event. A condition on the rows' numbers may be
  // added at its end. Empty: there is nothing to compare.
  std::string compare;
  // Where a BEFORE trigger may change a row as it is added, a comparison cannot tell it from one
  // that is in conflict.
  bool conflicts_at_once = false;
  std::string key_index;  // for messages
};

// A plan for the route, or why there can be none, to hold on. `number` makes the temporary table's
// name unique among routes.
[[nodiscard]] std::variant<MergePlan, Failure> plan_merge(const Route& route,
                                                          const CatalogTable& table,
                                                          const Catalog& catalog,
                                                          std::size_t number);

}  // namespace sluice::sink
