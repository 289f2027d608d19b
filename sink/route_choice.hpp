// The route of an event, by its type.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>

#include "sink/route.hpp"
#include "spool/event_record.hpp"
#include "spool/type_match.hpp"

namespace sluice::sink {

// Thread: one, as for the events.
class RouteChoice final {
 public:
  explicit RouteChoice(std::span<const Route> routes);

  // The index of the first route whose `match` the event's type fits.
  [[nodiscard]] std::optional<std::size_t> of(const spool::EventView& event);

 private:
  spool::TypeMatch match_;
  std::optional<std::size_t> always_;  // the first route, where it takes every type
  std::string decoded_;                // of a type with escapes
};

}  // namespace sluice::sink
