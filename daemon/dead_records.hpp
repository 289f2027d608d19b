// The set-aside records in a spool's directory, and the lines that were refused (reject_log.hpp),
// found by reading its files and nothing else: works beside the daemon that writes them, and
// changes nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/settings.hpp"
#include "spool/aside.hpp"
#include "spool/disk.hpp"

namespace sluice::daemon {

// What the database says of a record.
enum class RecordStanding {
  unknown,    // it was not asked
  counts,     // its event is only here
  is_void,    // its segment delivers the event, or has yet to: see spool/aside.hpp
  delivered,  // its row is in its table
};

struct DeadRecord {
  spool::AsideText text;  // without the line
  std::string file;       // in the spool's directory
  spool::AsidePlace place;
  RecordStanding standing = RecordStanding::unknown;

  // "dead", "waiting", "held", or "void" or "delivered" where that is known.
  [[nodiscard]] std::string_view state() const;
  [[nodiscard]] bool is_event() const { return text.state != spool::AsideState::rejected; }
  // "<segment>:<index>".
  [[nodiscard]] std::string name() const;
  // An object, and nothing of a payload in it. Texts are made fit for a terminal.
  [[nodiscard]] std::string json() const;
};

// "2026-01-31T12:00:00.000000Z"
[[nodiscard]] std::string utc_text(std::int64_t us);

// Which records are meant. What is empty does not matter.
struct DeadFilter {
  std::vector<std::string> names;  // as name(); of the segment its first characters will do
  std::string state;
  std::string table;
  std::string type;
  std::string sqlstate;  // or its class, the first two characters
  std::string code;      // of a refused line
  std::optional<std::int64_t> since_us;
  std::optional<std::int64_t> until_us;

  [[nodiscard]] bool is_empty() const;
  // It takes no event.
  [[nodiscard]] bool is_of_refused_lines() const;
  [[nodiscard]] bool takes(const DeadRecord& record) const;
};

// All that there are, of several for one event the last, in the order in which they were written.
// Throws std::system_error if the directory cannot be read.
[[nodiscard]] std::vector<DeadRecord> read_dead_records(spool::Disk& disk);

// The whole record. None: its line cannot be read, or is no longer there, as the daemon has written
// the file anew.
[[nodiscard]] std::optional<spool::AsideText> read_whole(spool::Disk& disk,
                                                         const DeadRecord& record);

// Asks the database how each record of an event stands, if there is any. Throws PostgresError.
void ask_standings(const config::Settings& settings, std::vector<DeadRecord>& records);

}  // namespace sluice::daemon
