#include "daemon/dead_records.hpp"

#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <system_error>
#include <utility>
#include <variant>

#include "config/model.hpp"
#include "config/units.hpp"
#include "daemon/blocking_postgres.hpp"
#include "daemon/printable.hpp"
#include "spool/aside_line.hpp"
#include "spool/aside_scan.hpp"
#include "spool/reject_log.hpp"
#include "spool/timestamp.hpp"

namespace sluice::daemon {
namespace {

constexpr std::chrono::seconds kQueryTimeout{15};
constexpr std::size_t kSegmentsAtOnce = 500;
// Watermark rows live as long; older records count without one.
constexpr std::int64_t kWatermarkLifeUs = std::int64_t{30} * 24 * 3600 * 1'000'000;

struct RecordFile {
  bool is_of_events = false;
  std::uint32_t number = 0;

  auto operator<=>(const RecordFile&) const = default;
  [[nodiscard]] std::string name() const {
    return is_of_events ? spool::aside_file_name(number) : spool::reject_file_name(number);
  }
};

// Refused lines first, then events.
std::vector<RecordFile> files_in(spool::Disk& disk) {
  std::vector<spool::DirectoryEntry> entries;
  const std::error_code error = disk.list(spool::kAsideDirectory, entries);
  if (error == std::errc::no_such_file_or_directory) return {};
  if (error) throw std::system_error(error, "reading the directory aside/ of the spool");
  std::vector<RecordFile> files;
  for (const spool::DirectoryEntry& entry : entries) {
    if (!entry.is_file) continue;
    if (const auto number = spool::aside_file_number(entry.name)) files.push_back({true, *number});
    if (const auto number = spool::reject_file_number(entry.name)) {
      files.push_back({false, *number});
    }
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::unique_ptr<spool::DiskFile> open_file(spool::Disk& disk, const std::string& name) {
  auto opened = disk.open(name, spool::OpenMode::read_only);
  auto* const reading = std::get_if<std::unique_ptr<spool::DiskFile>>(&opened);
  return reading == nullptr ? nullptr : std::move(*reading);
}

using Watermarks = std::map<std::string, std::uint64_t>;
using Redelivered = std::set<std::pair<std::string, std::uint64_t>>;

// Of the segments in the list, which is SQL.
void ask(BlockingPostgres& postgres, const std::string& schema, const std::string& list,
         Watermarks& watermarks, Redelivered& redelivered) {
  const std::string where = " WHERE segment_id IN (" + list + ")";
  const auto& statements =
      postgres.run("SELECT segment_id, upto FROM " + schema + ".watermark" + where +
                       ";SELECT segment_id, index FROM " + schema + ".redelivered" + where,
                   kQueryTimeout);
  const auto number = [](const std::optional<std::string>& text) {
    return config::parse_whole(text.value_or("")).value_or(0);
  };
  for (const auto& row : statements.at(0).rows) watermarks[row[0].value_or("")] = number(row[1]);
  for (const auto& row : statements.at(1).rows) {
    redelivered.emplace(row[0].value_or(""), number(row[1]));
  }
}

}  // namespace

std::string_view DeadRecord::state() const {
  if (standing == RecordStanding::delivered) return "delivered";
  if (standing == RecordStanding::is_void) return "void";
  return spool::aside_state_name(text.state);
}

std::string DeadRecord::name() const {
  return text.position.segment.text() + ":" + std::to_string(text.position.index);
}

std::string utc_text(std::int64_t us) {
  std::array<char, spool::kRfc3339Bytes> text{};
  spool::write_rfc3339(text.data(), us);
  return {text.data(), text.size()};
}

std::string DeadRecord::json() const {
  const auto quoted = [](std::string_view value) { return '"' + json_inside(value) + '"'; };
  std::string members = "\"record\":" + quoted(name());
  const auto add = [&](std::string_view key, const std::string& value) {
    members += ",\"" + std::string(key) + "\":" + value;
  };
  add("state", quoted(state()));
  add("time", quoted(utc_text(text.time_us)));
  add("received", text.received_us == 0 ? "null" : quoted(utc_text(text.received_us)));
  add("id", text.id ? quoted(text.id->text()) : "null");
  add("uid", text.uid == spool::kNoUid ? "null" : std::to_string(text.uid));
  add("route", quoted(text.route));
  add("type", quoted(text.type));
  add("table", quoted(text.table));
  add(is_event() ? "sqlstate" : "code", quoted(text.sqlstate));
  add("message", quoted(text.message));
  add("column", quoted(text.column));
  return '{' + members + '}';
}

bool DeadFilter::is_empty() const {
  return names.empty() && state.empty() && table.empty() && type.empty() && sqlstate.empty() &&
         code.empty() && !since_us && !until_us;
}

bool DeadFilter::is_of_refused_lines() const {
  return !code.empty() || state == spool::aside_state_name(spool::AsideState::rejected);
}

bool DeadFilter::takes(const DeadRecord& record) const {
  const auto is_it = [&](const std::string& name) {
    const std::size_t colon = name.find(':');
    return colon != std::string::npos &&
           record.text.position.segment.text().starts_with(name.substr(0, colon)) &&
           std::to_string(record.text.position.index) == name.substr(colon + 1);
  };
  return (names.empty() || std::any_of(names.begin(), names.end(), is_it)) &&
         (state.empty() || record.state() == state) &&
         (table.empty() || record.text.table == table) &&
         (type.empty() || record.text.type == type) &&
         (sqlstate.empty() || record.text.sqlstate == sqlstate ||
          (sqlstate.size() == 2 && record.text.sqlstate.starts_with(sqlstate))) &&
         (code.empty() || (!record.is_event() && record.text.sqlstate == code)) &&
         (!since_us || record.text.time_us >= *since_us) &&
         (!until_us || record.text.time_us < *until_us);
}

std::vector<DeadRecord> read_dead_records(spool::Disk& disk) {
  std::vector<DeadRecord> records;
  std::map<spool::Position, std::size_t> last;  // where in `records`
  for (const RecordFile& file : files_in(disk)) {
    const auto reading = open_file(disk, file.name());
    if (!reading) continue;  // the daemon has taken it away meanwhile
    const auto error = spool::scan_aside_file(*reading, [&](spool::AsideFound found) {
      last[found.text.position] = records.size();
      records.push_back({std::move(found.text), file.name(), {file.number, found.offset}});
    });
    if (error) throw std::system_error(error, "reading " + file.name());
  }
  std::vector<DeadRecord> counting;
  for (std::size_t i = 0; i < records.size(); ++i) {
    if (last[records[i].text.position] == i) counting.push_back(std::move(records[i]));
  }
  return counting;
}

std::optional<spool::AsideText> read_whole(spool::Disk& disk, const DeadRecord& record) {
  const auto file = open_file(disk, record.file);
  if (!file) return std::nullopt;
  const auto line = spool::read_aside_line(*file, record.place.offset);
  if (!line) return std::nullopt;
  auto text = spool::aside_text(*line);
  const bool is_it = text && text->position == record.text.position;
  return is_it ? std::move(text) : std::nullopt;
}

void ask_standings(const config::Settings& settings, std::vector<DeadRecord>& records) {
  std::set<std::string> segments;
  for (const DeadRecord& record : records) {
    if (record.is_event()) segments.insert(record.text.position.segment.text());
  }
  if (segments.empty()) return;
  BlockingPostgres postgres(settings.postgres.dsn);
  const std::string schema = config::quoted_identifier(settings.postgres.schema);
  Watermarks watermarks;
  Redelivered redelivered;
  std::string list;
  std::size_t listed = 0;
  for (auto segment = segments.begin(); segment != segments.end();) {
    list += (listed++ == 0 ? "'" : ",'") + *segment++ + "'";
    if (listed < kSegmentsAtOnce && segment != segments.end()) continue;
    ask(postgres, schema, list, watermarks, redelivered);
    list.clear();
    listed = 0;
  }
  const std::int64_t now_us = std::chrono::duration_cast<std::chrono::microseconds>(
                                  std::chrono::system_clock::now().time_since_epoch())
                                  .count();
  for (DeadRecord& record : records) {
    if (!record.is_event()) continue;
    const std::string segment = record.text.position.segment.text();
    const auto upto = watermarks.find(segment);
    const bool counts = upto != watermarks.end() ? record.text.position.index < upto->second
                                                 : now_us - record.text.time_us > kWatermarkLifeUs;
    record.standing = redelivered.contains({segment, record.text.position.index})
                          ? RecordStanding::delivered
                      : counts ? RecordStanding::counts
                               : RecordStanding::is_void;
  }
}

}  // namespace sluice::daemon
