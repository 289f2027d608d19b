// The command `show`: everything that the database and the spool's set-aside records know about an
// id.
#pragma once

#include <optional>
#include <string>

#include "config/settings.hpp"

namespace sluice::daemon {

struct ShowOptions {
  std::string id;  // a UUID or ULID, or what else the tables know by a name
  bool json = false;
  std::optional<std::string> schema;  // of the functions that are asked; else the search_path's
};

// Asks each function `everything_about` and `everything_about_…` of the catalog that takes one uuid
// or text and gives a jsonb object, in a transaction that only reads, and prints what they know to
// stdout as one, with what was set aside or refused of it as its member `set_aside`.
//
// Returns the exit code: kExitUnknown if nobody knows anything, kExitConfig if there is no such
// function either.
[[nodiscard]] int run_show(const config::Settings& settings, const ShowOptions& options);

}  // namespace sluice::daemon
