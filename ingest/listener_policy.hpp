// How one listening socket treats its producers.
#pragma once

#include <cstdint>
#include <vector>

#include "ingest/event_parser.hpp"
#include "ingest/origin.hpp"

namespace sluice::ingest {

struct ListenerPolicy {
  OnFull on_full = OnFull::wait;
  // Who may connect; empty: everybody. TCP has no uid, so with a list nobody comes in that way.
  std::vector<std::uint32_t> allow_uids;
  // With this socket's default type; none: the listener's own parser. Outlives the listener.
  EventParser* parser = nullptr;
};

}  // namespace sluice::ingest
