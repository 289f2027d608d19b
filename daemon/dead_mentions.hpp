// The set-aside records and refused lines that are about an id.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "config/settings.hpp"
#include "daemon/dead_records.hpp"
#include "spool/uuid.hpp"

namespace sluice::daemon {

struct DeadMention {
  DeadRecord record;
  std::string line;  // as the producer sent it
};

// Those whose event has the id, and those whose line has it anywhere as a whole string: the event
// that waits for its parent is found by the parent's id, and a refused line is no event that could
// be asked for a field. `uuid`: what the id means, if it is a UUID or ULID.
//
// Reads every line. `directory`: of the spool; if there is none, nothing is set aside. Throws
// std::system_error if it cannot be read.
[[nodiscard]] std::vector<DeadMention> find_mentions(const std::string& directory,
                                                     const std::string& id,
                                                     const std::optional<spool::Uuid>& uuid);

// As for records. Throws PostgresError.
void ask_standings(const config::Settings& settings, std::vector<DeadMention>& mentions);

}  // namespace sluice::daemon
