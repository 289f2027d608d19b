// Without Postgres nobody knows which records are void: they are shown as the files have them, and
// that is said.
#include "daemon/command_dead.hpp"

#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <utility>

#include "config/units.hpp"
#include "daemon/blocking_postgres.hpp"
#include "daemon/dead_retry.hpp"
#include "daemon/exit_code.hpp"
#include "daemon/file_lock.hpp"
#include "daemon/printable.hpp"
#include "daemon/spool_directory.hpp"
#include "spool/aside_line.hpp"
#include "spool/aside_log.hpp"
#include "spool/posix_disk.hpp"
#include "spool/purge_request.hpp"
#include "spool/timestamp.hpp"

namespace sluice::daemon {

namespace {

constexpr std::size_t kShortSegment = 8;  // of a uuid: enough to tell some thousand segments apart
constexpr std::size_t kLineShownMax = 512u << 20;
constexpr std::chrono::seconds kPurgePatience{30};
constexpr std::chrono::milliseconds kPurgePoll{100};

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) {
    throw std::system_error(errno, std::generic_category(), "writing the output");
  }
}

void flush() {
  if (std::fflush(stdout) != 0) {
    throw std::system_error(errno, std::generic_category(), "writing the output");
  }
}

std::string time_text(std::int64_t us) {
  std::array<char, spool::kRfc3339Bytes> text{};
  spool::write_rfc3339(text.data(), us);
  return {text.data(), text.size()};
}

std::string seconds_text(std::int64_t us) {
  return time_text(us).substr(0, 19) + "Z";
}

std::string short_name(const DeadRecord& record) {
  return record.text.position.segment.text().substr(0, kShortSegment) + ":" +
         std::to_string(record.text.position.index);
}

std::string uid_text(std::uint32_t uid) {
  return uid == spool::kNoUid ? "null" : std::to_string(uid);
}

// So that a daemon that runs as another user can read what root has written.
void give_to_owner_of(const std::string& directory, const std::string& file) {
  struct stat status {};
  if (::geteuid() != 0 || ::stat(directory.c_str(), &status) != 0) return;
  if (::chown(file.c_str(), status.st_uid, status.st_gid) != 0) {
    throw std::system_error(errno, std::generic_category(), "giving " + file + " to the daemon");
  }
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

std::string json_texts(const DeadRecord& record) {
  std::string members;
  const auto add = [&](std::string_view name, std::string_view value) {
    members += fmt::format(",\"{}\":\"{}\"", name, json_inside(value));
  };
  const spool::AsideText& text = record.text;
  add("route", text.route);
  add("type", text.type);
  add("table", text.table);
  add(record.is_event() ? "sqlstate" : "code", text.sqlstate);
  add("message", text.message);
  add("column", text.column);
  return members;
}

void print_json(const DeadRecord& record) {
  const spool::AsideText& text = record.text;
  const std::string received =
      text.received_us == 0 ? "null" : "\"" + time_text(text.received_us) + "\"";
  print(fmt::format(
      "{{\"record\":\"{}\",\"state\":\"{}\",\"time\":\"{}\",\"received\":{},"
      "\"id\":{},\"uid\":{}{}}}\n",
      record.name(), record.state(), time_text(text.time_us), received,
      text.id ? "\"" + text.id->text() + "\"" : "null", uid_text(text.uid), json_texts(record)));
}

void print_whole(const DeadRecord& record, const spool::AsideText& text) {
  const auto row = [](std::string_view name, std::string_view value) {
    if (!value.empty()) print(fmt::format("{:10}{}\n", name, value));
  };
  row("record", record.name());
  row("state", record.state());
  row("set aside", time_text(text.time_us));
  if (text.received_us != 0) row("received", time_text(text.received_us));
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

// Of events, as find() has them, but of no use without the database.
std::vector<DeadRecord> find_standing(const config::Settings& settings, const DeadOptions& options,
                                      spool::Disk& disk) {
  std::vector<DeadRecord> records = read_dead_records(disk);
  ask_standings(settings, records);
  std::erase_if(records, [&](const DeadRecord& record) {
    return !record.is_event() || !options.filter.takes(record);
  });
  return records;
}

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
  if (record.standing == RecordStanding::delivered) return true;
  return record.text.state == spool::AsideState::dead || filter.state == record.state();
}

// No daemon runs on the spool as long as this one holds the lock.
std::size_t purge_by_ourselves(SpoolDirectory& directory, std::uint64_t bytes_max,
                               const std::vector<spool::Position>& chosen) {
  spool::AsideLog log({.bytes_max = bytes_max}, directory.disk());
  log.purge(chosen);
  while (log.tend()) {
  }
  std::size_t left = 0;
  for (const spool::Position& each : chosen) left += log.read(each) ? 1 : 0;
  return left;
}

// How many are left when the daemon is done, or does not answer.
std::size_t purge_by_the_daemon(const std::string& directory,
                                const std::vector<spool::Position>& chosen) {
  spool::PosixDisk disk(directory);
  std::string name;
  if (const auto error = spool::write_purge_request(disk, chosen, name)) {
    throw std::system_error(error, "asking the daemon to purge");
  }
  give_to_owner_of(directory, directory + "/" + name);
  const auto deadline = std::chrono::steady_clock::now() + kPurgePatience;
  while (std::filesystem::exists(directory + "/" + name)) {
    if (std::chrono::steady_clock::now() > deadline) {
      (void)disk.remove(name);
      return chosen.size();
    }
    std::this_thread::sleep_for(kPurgePoll);
  }
  return 0;
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
    for (const DeadRecord& record : records) print_json(record);
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
  if (!all) fmt::print(stderr, "sluice: there is no such record: `sluice dead list` lists them\n");
  return all ? kExitOk : kExitUsage;
}

int retry_dead(const config::Settings& settings, const DeadOptions& options) {
  check_is_chosen(options, "retry");
  spool::PosixDisk disk(options.directory);
  try {
    std::vector<DeadRecord> records = find_standing(settings, options, disk);
    std::erase_if(records, [](const DeadRecord& record) {
      return record.standing == RecordStanding::delivered;
    });
    const RetryResult result =
        retry_records(settings, disk, records, told_by_printing(options.json));
    if (!options.json) {
      print(fmt::format("{} of {} records delivered\n", result.delivered, records.size()));
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
  std::vector<spool::Position> chosen;
  std::size_t kept = 0;
  try {
    spool::PosixDisk disk(options.directory);
    for (const DeadRecord& record : find_standing(settings, options, disk)) {
      // A void one is what its segment's lane remembers the refusal by.
      const bool may =
          record.standing != RecordStanding::is_void && may_be_purged(record, options.filter);
      if (may) chosen.push_back(record.text.position);
      kept += may ? 0 : 1;
    }
  } catch (const PostgresError& error) {
    return complain(error.what(), kExitUnavailable);
  }
  std::size_t left = 0;
  if (!chosen.empty()) {
    if (is_locked(SpoolDirectory::lock_path(options.directory))) {
      left = purge_by_the_daemon(options.directory, chosen);
    } else {
      SpoolDirectory directory(options.directory);
      left = purge_by_ourselves(directory, settings.spool.aside_bytes_max, chosen);
    }
  }
  print(fmt::format("{} records purged", chosen.size() - left));
  print(kept == 0 ? "\n" : fmt::format(", {} kept: they are void, waiting or held\n", kept));
  flush();
  if (left > 0) {
    return complain("the daemon does not do it: run this as the daemon's user", kExitUnavailable);
  }
  return kExitOk;
}

}  // namespace sluice::daemon
