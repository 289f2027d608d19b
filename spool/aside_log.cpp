#include "spool/aside_log.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>
#include <utility>

#include "spool/aside_line.hpp"
#include "spool/crc32c.hpp"

namespace sluice::spool {
namespace {

const std::string kDirectory = "aside";
constexpr std::string_view kPrefix = "dead-";
constexpr std::string_view kSuffix = ".ndjson";
constexpr std::size_t kReadBytes = 256 * 1024;

std::string name_of(std::uint32_t file) {
  return kDirectory + '/' + std::string(kPrefix) + std::to_string(file) + std::string(kSuffix);
}

std::optional<std::uint32_t> number_in(std::string_view name) {
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return std::nullopt;
  name = name.substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size());
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  const bool is_number = error == std::errc() && end == name.data() + name.size();
  return is_number ? std::optional(number) : std::nullopt;
}

}  // namespace

// Finds the whole lines of a file, of which only the heads are kept: a line may be long. What a
// crash has cut off or garbled fails the checksum.
class AsideLog::LineScan {
 public:
  // Calls `found(head, offset)` for each good line that ends in the bytes.
  template <typename Found>
  void take(std::string_view bytes, Found&& found) {
    while (!bytes.empty()) {
      const std::size_t newline = bytes.find('\n');
      const bool ends = newline != std::string_view::npos;
      add(bytes.substr(0, newline));
      if (!ends) return;
      const auto checksum = aside_checksum(head_);
      if (checksum && *checksum == rest_.value()) found(std::string_view(head_), offset_);
      bytes.remove_prefix(newline + 1);
      offset_ += line_bytes_ + 1;
      line_bytes_ = 0;
      head_.clear();
      rest_ = {};
    }
  }

 private:
  void add(std::string_view piece) {
    const std::size_t checksum_left =
        kAsideChecksumBytes - std::min(kAsideChecksumBytes, line_bytes_);
    if (piece.size() > checksum_left) {
      rest_.add(std::as_bytes(std::span(piece.substr(checksum_left))));
    }
    head_.append(piece.substr(0, kAsideHeadBytes - head_.size()));
    line_bytes_ += piece.size();
  }

  std::string head_;
  Crc32c rest_;
  std::size_t line_bytes_ = 0;
  std::uint64_t offset_ = 0;  // of the line
};

AsideLog::AsideLog(AsideLogOptions options, Disk& disk) : options_(options), disk_(disk) {
  scanned_ = scan();
}

bool AsideLog::scan() {
  std::vector<DirectoryEntry> entries;
  const std::error_code error = disk_.list(kDirectory, entries);
  if (error == std::errc::no_such_file_or_directory) return true;
  if (error) return false;
  std::vector<std::uint32_t> files;
  bytes_ = 0;
  for (const DirectoryEntry& entry : entries) {
    const auto file = number_in(entry.name);
    if (!file || !entry.is_file) continue;
    files.push_back(*file);
    bytes_ += entry.bytes;
  }
  std::sort(files.begin(), files.end());
  if (!files.empty()) next_file_ = first_of_run_ = files.back() + 1;
  for (const std::uint32_t file : files) scan_file(file);
  return true;
}

// A file that cannot be read has no records that could be told from others: their events are
// delivered again, as those above a watermark are anyway.
void AsideLog::scan_file(std::uint32_t file) {
  auto opened = disk_.open(name_of(file), OpenMode::read_only);
  auto* const reading = std::get_if<std::unique_ptr<DiskFile>>(&opened);
  if (reading == nullptr) return;
  LineScan lines;
  std::vector<std::byte> buffer(kReadBytes);
  std::size_t got = buffer.size();
  for (std::uint64_t at = 0; got == buffer.size(); at += got) {
    if ((*reading)->read(at, buffer, got)) return;
    lines.take({reinterpret_cast<const char*>(buffer.data()), got},
               [&](std::string_view head, std::uint64_t offset) {
                 if (const auto found = aside_head(head)) {
                   note(found->segment, {found->index, offset, file, found->state});
                 }
               });
  }
}

void AsideLog::note(const Uuid& segment, const Record& record) {
  std::vector<Record>& records = records_[segment];
  const auto at = std::partition_point(records.begin(), records.end(), [&](const Record& each) {
    return each.index < record.index;
  });
  if (at != records.end() && at->index == record.index) {
    *at = record;
  } else {
    records.insert(at, record);
  }
}

bool AsideLog::append(const AsideRecord& record) {
  const std::string line = aside_line(record);
  constexpr int kFilesTried = 2;
  for (int i = 0; i < kFilesTried; ++i) {
    if (!has_room(line.size()) || (!file_ && !open_file())) return false;
    const std::uint64_t offset = end_;
    switch (write(line)) {
      case Written::yes:
        note(record.segment, {record.index, offset, next_file_ - 1, record.state});
        return true;
      case Written::no:
        return false;
      case Written::poisoned:
        file_.reset();
        break;
    }
  }
  return false;
}

// At the cap it looks again: somebody may have taken files away.
bool AsideLog::has_room(std::size_t bytes) {
  if (bytes_ + bytes <= options_.bytes_max) return true;
  std::vector<DirectoryEntry> entries;
  if (disk_.list(kDirectory, entries)) return false;
  bytes_ = 0;
  for (const DirectoryEntry& entry : entries) {
    if (entry.is_file && number_in(entry.name)) bytes_ += entry.bytes;
  }
  return bytes_ + bytes <= options_.bytes_max;
}

bool AsideLog::open_file() {
  if (!scanned_ && !(scanned_ = scan())) return false;
  if (!directory_durable_) {
    if (disk_.make_directory(kDirectory)) return false;
    if (options_.sync && disk_.sync_directory("")) return false;
    directory_durable_ = true;
  }
  const std::string name = name_of(next_file_);
  auto opened = disk_.open(name, OpenMode::create);
  if (const auto* error = std::get_if<std::error_code>(&opened)) {
    if (*error == std::errc::file_exists) ++next_file_;  // left by a failure of the next lines
    return false;
  }
  if (options_.sync && disk_.sync_directory(kDirectory)) {
    (void)disk_.remove(name);
    return false;
  }
  file_ = std::move(std::get<std::unique_ptr<DiskFile>>(opened));
  end_ = 0;
  ++next_file_;
  return true;
}

AsideLog::Written AsideLog::write(const std::string& line) {
  const std::array<Bytes, 1> pieces{std::as_bytes(std::span(line))};
  if (file_->write(end_, pieces)) {
    // The disk is full, or fails. What is there of the line goes; if that cannot be, no other line
    // may come behind it.
    if (file_->truncate(end_)) file_.reset();
    return Written::no;
  }
  end_ += line.size();
  bytes_ += line.size();
  if (options_.sync && file_->sync()) return Written::poisoned;
  return Written::yes;
}

std::optional<std::vector<AsideEntry>> AsideLog::records_from(const Position& position) {
  if (!scanned_ && !(scanned_ = scan())) return std::nullopt;
  std::vector<AsideEntry> entries;
  const auto records = records_.find(position.segment);
  if (records == records_.end()) return entries;
  for (const Record& record : records->second) {
    if (record.index >= position.index) entries.push_back(entry_of(record));
  }
  return entries;
}

// The reason stands in the file; one that cannot be read again is no reason to send the row.
AsideEntry AsideLog::entry_of(const Record& record) const {
  AsideEntry entry{record.index, record.file >= first_of_run_, record.state, {}, {}, {}};
  if (entry.durable) return entry;
  entry.message = "refused before a restart";
  const auto opened = disk_.open(name_of(record.file), OpenMode::read_only);
  const auto* const reading = std::get_if<std::unique_ptr<DiskFile>>(&opened);
  if (reading == nullptr) return entry;
  std::string head(kAsideHeadBytes, '\0');
  std::size_t got = 0;
  if ((*reading)->read(record.offset, std::as_writable_bytes(std::span(head)), got)) return entry;
  if (auto found = aside_head(std::string_view(head).substr(0, got))) {
    entry.sqlstate = std::move(found->sqlstate);
    if (!found->message.empty()) entry.message = std::move(found->message);
    entry.column = std::move(found->column);
  }
  return entry;
}

}  // namespace sluice::spool
