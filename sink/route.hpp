// Which table an event goes to, and where each column's value comes from.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "sink/database.hpp"

namespace sluice::sink {

// Where a column's value comes from. A value that the event does not have is NULL.
enum class Source : std::uint8_t {
  // From the daemon.
  id,           // the producer's, or the one that the daemon gave
  occurred_at,  // the event's time, or that of receipt
  received_at,
  uid,  // the producer's user id; none over TCP
  // From the event.
  type,
  source,
  session_id,
  parent_id,
  dedupe_key,
  data,
  extra,  // an object of all members that no other source names; none: NULL
};

struct Column {
  std::string name;
  Source source;
};

struct Route {
  std::string table;  // "table" or "schema.table"
  std::vector<Column> columns;
};

// The route of the agent_log model: every event into `events`.
[[nodiscard]] Route agent_log_route();

// Checks the route against the table as the catalog has it: the types of the route's columns, in
// their order, or why the table cannot take them (a failure to hold on).
[[nodiscard]] std::variant<std::vector<ColumnType>, Failure> bind_columns(
    const Route& route, std::span<const CatalogColumn> catalog);

}  // namespace sluice::sink
