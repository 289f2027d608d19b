// Without Postgres nobody knows which records are void: they are shown as the files have them, and
// that is said.
#include "daemon/command_dead.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <stdexcept>
#include <utility>

#include "config/units.hpp"
#include "daemon/blocking_postgres.hpp"
#include "daemon/dead_purge.hpp"
#include "daemon/dead_retry.hpp"
#include "daemon/exit_code.hpp"
#include "daemon/printable.hpp"
#include "daemon/standard_output.hpp"
#include "spool/aside_line.hpp"
#include "spool/posix_disk.hpp"
#include "spool/timestamp.hpp"

namespace sluice::daemon {

namespace {

constexpr std::size_t kShortSegment = 8;  // of a uuid: enough to tell some thousand segments apart
constexpr std::size_t kLineShownMax = 512u << 20;

std::string seconds_text(std::int64_t us) {
  return utc_text(us).substr(0, 19) + "Z";
}

std::string short_name(const DeadRecord& record) {
  return record.text.position.segment.text().substr(0, kShortSegment) + ":" +
         std::to_string(record.text.position.index);
}

// The records that are meant, with their standings if the database can be asked.
std::vector<DeadRecord> find(const config::Settings& settings, const DeadOptions& options,
                             spool::Disk& disk) {
  std::vector<DeadRecord> records = read_dead_records(disk);
  if (!options.offline) {
    try {
      ask_standings(settings, records);
    } catch (const PostgresError& error) {
      fmt::print(stderr,
                 "sluice: Postgres cannot be asked which of these are void or delivered: {}\n",
                 error.what());
    }
  }
  std::erase_if(records, [&](const DeadRecord& record) { return !options.filter.takes(record); });
  return records;
}

void print_total(const std::vector<DeadRecord>& records) {
  std::map<std::string_view, std::size_t> by_state;
  for (const DeadRecord& record : records) ++by_state[record.state()];
  std::string parts;
  for (const auto& [state, count] : by_state) {
    parts += fmt::format("{} {} {}", parts.empty() ? ":" : ",", count, state);
  }
  print(fmt::format("{} records{}\n", records.size(), parts));
}

void print_table(const std::vector<DeadRecord>& records) {
  print(fmt::format("{:17}  {:9}  {:20}  {:16}  {:8}  {:20}  {}\n", "record", "state", "since",
                    "table", "code", "type", "reason"));
  for (const DeadRecord& record : records) {
    const spool::AsideText& text = record.text;
    print(fmt::format("{:17}  {:9}  {:20}  {:16}  {:8}  {:20}  {}\n", short_name(record),
                      record.state(), seconds_text(text.time_us), printable(text.table),
                      text.sqlstate, printable(text.type), printable(text.message)));
  }
  print_total(records);
}

void print_whole(const DeadRecord& record, const spool::AsideText& text) {
  const auto row = [](std::string_view name, std::string_view value) {
    if (!value.empty()) print(fmt::format("{:10}{}\n", name, value));
  };
  row("record", record.name());
  row("state", record.state());
  row("set aside", utc_text(text.time_us));
  if (text.received_us != 0) row("received", utc_text(text.received_us));
  if (text.id) row("id", text.id->text());
  if (text.uid != spool::kNoUid) row("uid", std::to_string(text.uid));
  row("route", printable(text.route));
  row("type", printable(text.type));
  row("table", printable(text.table));
  row(record.is_event() ? "sqlstate" : "code", text.sqlstate);
  row("message", printable(text.message));
  row("column", printable(text.column));
  row("line", printable(text.line, kLineShownMax));
}

void check_is_chosen(const DeadOptions& options, const char* command) {
  if (options.all || !options.filter.is_empty()) return;
  throw std::invalid_argument(std::string("dead ") + command +
                              ": say which records: by name, with --table and the like, or --all");
}

// As find() has them, but of no use without what the database says of events.
std::vector<DeadRecord> find_standing(const config::Settings& settings, const DeadOptions& options,
                                      spool::Disk& disk) {
  std::vector<DeadRecord> records = read_dead_records(disk);
  if (options.filter.is_of_refused_lines()) {
    std::erase_if(records, [](const DeadRecord& record) { return record.is_event(); });
  }
  ask_standings(settings, records);
  std::erase_if(records, [&](const DeadRecord& record) { return !options.filter.takes(record); });
  return records;
}

constexpr const char* kNoSuchRecord = "there is no such record: `sluice dead list` lists them";

int complain(const std::string& what, ExitCode code) {
  fmt::print(stderr, "sluice: {}\n", what);
  return code;
}

RetryTold told_by_printing(bool json) {
  RetryTold told;
  told.record = [json](const DeadRecord& record, std::string_view what, const std::string& why) {
    if (json) {
      print(fmt::format("{{\"record\":\"{}\",\"outcome\":\"{}\",\"why\":\"{}\"}}\n", record.name(),
                        what, json_inside(why)));
    } else if (what != "delivered") {
      print(fmt::format("{:17}  {:10}  {}\n", short_name(record), what, printable(why)));
    }
  };
  told.trouble = [](const std::string& why) {
    fmt::print(stderr, "sluice: {}; trying again\n", printable(why));
  };
  return told;
}

// What may go: without a word about them, nothing that is still to be delivered.
bool may_be_purged(const DeadRecord& record, const DeadFilter& filter) {
  if (record.standing == RecordStanding::delivered || !record.is_event()) return true;
  return record.text.state == spool::AsideState::dead || filter.state == record.state();
}

// Those that may go. `kept` rises by the others.
std::vector<DeadRecord> find_to_purge(const config::Settings& settings, const DeadOptions& options,
                                      std::size_t& kept) {
  spool::PosixDisk disk(options.directory);
  std::vector<DeadRecord> records = find_standing(settings, options, disk);
  const std::size_t found = records.size();
  std::erase_if(records, [&](const DeadRecord& record) {
    // A void one is what its segment's lane remembers the refusal by.
    return record.standing == RecordStanding::is_void || !may_be_purged(record, options.filter);
  });
  kept += found - records.size();
  return records;
}

}  // namespace

std::int64_t time_option_us(const std::string& option, const std::string& text) {
  using namespace std::chrono;
  if (const auto ago = config::parse_duration(text)) {
    return duration_cast<microseconds>(system_clock::now().time_since_epoch() - *ago).count();
  }
  if (const auto time = spool::parse_rfc3339_us(text, spool::kAllTimes)) return *time;
  throw std::invalid_argument(option + ": " + text +
                              " is no time, as 2026-01-31T12:00:00Z or 2h (ago) is");
}

int list_dead(const config::Settings& settings, const DeadOptions& options) {
  spool::PosixDisk disk(options.directory);
  const std::vector<DeadRecord> records = find(settings, options, disk);
  if (options.json) {
    for (const DeadRecord& record : records) print(record.json() + "\n");
  } else {
    print_table(records);
  }
  flush();
  return kExitOk;
}

int show_dead(const config::Settings& settings, const DeadOptions& options) {
  spool::PosixDisk disk(options.directory);
  const std::vector<DeadRecord> records = find(settings, options, disk);
  bool all = !records.empty();
  bool first = true;
  for (const DeadRecord& record : records) {
    const auto text = read_whole(disk, record);
    all = all && text;
    if (!text) continue;
    if (options.json) {
      print(spool::aside_line(text->record()));
    } else {
      if (!std::exchange(first, false)) print("\n");
      print_whole(record, *text);
    }
  }
  flush();
  return all ? kExitOk : complain(kNoSuchRecord, kExitUsage);
}

int retry_dead(const config::Settings& settings, const DeadOptions& options) {
  check_is_chosen(options, "retry");
  spool::PosixDisk disk(options.directory);
  try {
    std::vector<DeadRecord> records = find_standing(settings, options, disk);
    if (records.empty() && !options.filter.names.empty()) {
      return complain(kNoSuchRecord, kExitUsage);
    }
    const std::size_t lines =
        std::erase_if(records, [](const auto& each) { return !each.is_event(); });
    const std::size_t before = std::erase_if(
        records, [](const auto& each) { return each.standing == RecordStanding::delivered; });
    const RetryResult result =
        retry_records(settings, disk, records, told_by_printing(options.json));
    if (!options.json) {
      print(fmt::format("{} of {} records delivered", result.delivered, records.size()));
      if (before > 0) print(fmt::format(", {} were before", before));
      if (lines > 0) print(fmt::format(", {} are refused lines, which are no events", lines));
      print("\n");
    }
    flush();
    if (!result.reached_postgres) return complain("Postgres is not there", kExitUnavailable);
    return result.delivered == records.size() ? kExitOk : kExitRefused;
  } catch (const PostgresError& error) {
    return complain(error.what(), kExitUnavailable);
  }
}

int purge_dead(const config::Settings& settings, const DeadOptions& options) {
  check_is_chosen(options, "purge");
  std::size_t kept = 0;
  std::vector<DeadRecord> chosen;
  try {
    chosen = find_to_purge(settings, options, kept);
  } catch (const PostgresError& error) {
    return complain(error.what(), kExitUnavailable);
  }
  const auto events = std::stable_partition(
      chosen.begin(), chosen.end(), [](const DeadRecord& record) { return !record.is_event(); });
  const std::size_t left =
      purge_refused_lines(options.directory, {chosen.begin(), events}) +
      purge_events(options.directory, settings.spool.aside_bytes_max, {events, chosen.end()});
  print(fmt::format("{} records purged", chosen.size() - left));
  print(kept == 0 ? "\n" : fmt::format(", {} kept: they are void, waiting or held\n", kept));
  flush();
  if (left > 0) {
    return complain("the daemon does not do it: run this as the daemon's user", kExitUnavailable);
  }
  return kExitOk;
}

}  // namespace sluice::daemon
