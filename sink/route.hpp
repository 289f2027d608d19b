// Which table an event goes to, and where each column's value comes from.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "sink/column_value.hpp"
#include "sink/database.hpp"

namespace sluice::sink {

// Where a column's value comes from. A value that the event does not have is NULL.
enum class Source : std::uint8_t {
  // From the daemon.
  id,           // the producer's, or the one that the daemon gave
  occurred_at,  // the event's time, or that of receipt
  received_at,
  uid,      // the producer's user id; none over TCP
  segment,  // of the event's identity in the spool
  index,    // likewise
  line,     // the line as it came
  extra,    // an object of all members that no other column takes whole; none: NULL
  // From the event.
  type,
  source,
  session_id,
  parent_id,
  dedupe_key,
  data,
  member,   // the top-level member of the name Column::from
  pointer,  // what the JSON pointer (RFC 6901) Column::from points to, in the event's object
  // From the configuration.
  constant,  // Column::from, a JSON value
};

struct Column {
  std::string name{};
  Source source{};
  std::string from{};     // of Source::member, pointer and constant
  bool required = false;  // without a value the event is refused
  std::string type{};     // that the configuration expects the column to have; or empty
  std::string place{};    // "file:line" in the configuration, for messages; or empty
};

enum class RouteMode : std::uint8_t {
  append,  // COPY into the table; by merging where a key is taken
  merge,   // by merging from the start: plain COPY only after no key was taken for a while
};

// What a row is whose key is taken.
enum class OnConflict : std::uint8_t {
  compare,  // a late duplicate if the stored row agrees in the columns from the producer, else dead
  skip,     // a duplicate
  dead,     // set aside
};

// Which events go where.
struct Route {
  std::string match = "*";  // a type, or the beginning of types and a `*`
  std::string table{};      // "table" or "schema.table"; each part as it is, quotes are added
  std::vector<Column> columns{};
  RouteMode mode = RouteMode::append;
  OnConflict on_conflict = OnConflict::compare;
  std::vector<std::string> key{};  // columns of the conflict target; none: the primary key
  bool trigger_may_skip = false;   // a BEFORE trigger may take rows away
  std::string place{};             // "file:line" in the configuration, for messages; or empty
};

// The route of the agent_log model: every event into `events`.
[[nodiscard]] Route agent_log_route();

// Checks the route against the table as the catalog has it: how the route's columns take their
// values, in their order, or why the table cannot take them (a failure to hold on).
[[nodiscard]] std::variant<std::vector<BoundColumn>, Failure> bind_columns(
    const Route& route, std::span<const CatalogColumn> catalog);

}  // namespace sluice::sink
