// What somebody wants to be taken out of the aside files while a daemon owns them: a file
// aside/purge-<uuid>.list beside them, a line "<segment> <index>" for each record.
//
// Only who holds the spool's lock changes the aside files: two who rewrite them would each lose
// what the other wrote. So the command asks, the daemon does it, and removes the request when it is
// done; one that is left over from a crash is done again.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "spool/aside.hpp"
#include "spool/disk.hpp"

namespace sluice::spool {

// Writes a request, whole or not at all. `name`: the file's, in the spool's directory.
[[nodiscard]] std::error_code write_purge_request(Disk& disk, std::span<const Position> records,
                                                  std::string& name);

// Whether the name, in the directory aside/, is that of a request.
[[nodiscard]] bool is_purge_request(std::string_view name);

// None: it cannot be read.
[[nodiscard]] std::optional<std::vector<Position>> read_purge_request(Disk& disk,
                                                                      const std::string& name);

}  // namespace sluice::spool
