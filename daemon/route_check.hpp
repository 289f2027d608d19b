// What `sluice check` has to say about a route and its table.
#pragma once

#include <string>
#include <vector>

#include "sink/catalog.hpp"
#include "sink/route.hpp"

namespace sluice::daemon {

struct RouteFinding {
  enum class Kind {
    note,   // worth knowing
    wrong,  // rows would be refused, or the route held
  };
  Kind kind;
  std::string what;       // with the place in the configuration, where it has one
  std::string next_step;  // for a person
};

// Nothing: the route's events can be taken. `catalog` tells the role and its rights; `table` is
// what it has of the route's table.
[[nodiscard]] std::vector<RouteFinding> check_route(const sink::Route& route,
                                                    const sink::CatalogTable& table,
                                                    const sink::Catalog& catalog);

}  // namespace sluice::daemon
