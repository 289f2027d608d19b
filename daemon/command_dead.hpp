// `sluice dead list|show|retry|purge`: the events that were set aside, with or without a daemon
// that runs on them.
#pragma once

#include <string>

#include "config/settings.hpp"
#include "daemon/dead_records.hpp"

namespace sluice::daemon {

struct DeadOptions {
  std::string directory;  // of the spool
  DeadFilter filter;
  bool json = false;
  bool offline = false;  // Postgres is not asked which records are void or delivered
  bool all = false;      // without a filter
};

// "2026-01-31T12:00:00Z", or how long ago: "2h". Throws std::invalid_argument, which names the
// option.
[[nodiscard]] std::int64_t time_option_us(const std::string& option, const std::string& text);

// A table, or JSON lines; nothing of a payload. Each returns the exit code, and throws
// std::system_error if the directory cannot be read.
[[nodiscard]] int list_dead(const config::Settings& settings, const DeadOptions& options);

// Everything there is to know about the records, their lines included, made fit for a terminal; as
// JSON, the records as they stand in the files.
[[nodiscard]] int show_dead(const config::Settings& settings, const DeadOptions& options);

// Both want to be told which records: by name, by a filter, or all. They change only those that
// count as the database says; exit code 65 if some of what was asked for was not done.

// Tries to deliver them, each once and for all. Lines that were refused are no events, and passed
// over.
[[nodiscard]] int retry_dead(const config::Settings& settings, const DeadOptions& options);
// Takes them out of the files, as daemon/dead_purge.hpp does. What is waiting or held goes only if
// --state says so. Nothing is changed if the database cannot be asked about those of events.
[[nodiscard]] int purge_dead(const config::Settings& settings, const DeadOptions& options);

}  // namespace sluice::daemon
