// Where a chunk's lines came from, as far as the journal has to know it.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>

#include "ingest/ack_ledger.hpp"
#include "spool/producer_table.hpp"

namespace sluice::ingest {

// What a listener's producers want when there is no room for an event.
enum class OnFull {
  wait,    // they are not read until there is
  reject,  // the line is refused with the code `full`
  drop,    // the line is counted and forgotten
};

struct Origin {
  std::shared_ptr<AckLedger> ledger;  // none: the producer did not ask for acks
  AckLedger::Ticket ticket = 0;       // of this chunk in the ledger
  std::uint64_t first_line = 0;       // of the connection: a record's line is this + its line_delta
  // A producer that named itself: its own number of a line is the connection's number plus this.
  std::optional<spool::ProducerKey> producer;
  std::uint64_t line_offset = 0;
  OnFull on_full = OnFull::wait;
};

}  // namespace sluice::ingest
