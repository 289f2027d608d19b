#include "spool/aside_log.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "spool/aside_line.hpp"
#include "spool/aside_scan.hpp"
#include "spool/purge_request.hpp"

namespace sluice::spool {
namespace {

// How often files are looked through for what is done with, unless somebody asks for it.
constexpr std::int64_t kRenewIntervalS = 60;
constexpr std::size_t kWriteBytes = 1u << 20;

// Collects bytes for a new file and writes them in large pieces.
class Output {
 public:
  explicit Output(DiskFile& file) : file_(file) {}

  [[nodiscard]] std::uint64_t end() const { return written_ + pending_.size(); }
  [[nodiscard]] bool add(std::string_view line) {
    pending_ += line;
    return pending_.size() < kWriteBytes || flush();
  }
  [[nodiscard]] bool flush() {
    const std::array<Bytes, 1> pieces{std::as_bytes(std::span(pending_))};
    if (file_.write(written_, pieces)) return false;
    written_ += pending_.size();
    pending_.clear();
    return true;
  }

 private:
  DiskFile& file_;
  std::string pending_;
  std::uint64_t written_ = 0;
};

}  // namespace

AsideLog::AsideLog(AsideLogOptions options, Disk& disk)
    : options_(std::move(options)), disk_(disk) {
  scanned_ = scan();
}

bool AsideLog::scan() {
  std::vector<DirectoryEntry> entries;
  const std::error_code error = disk_.list(kAsideDirectory, entries);
  if (error == std::errc::no_such_file_or_directory) return true;
  if (error) return false;
  files_.clear();
  index_ = {};
  std::map<std::uint32_t, std::uint64_t> found;
  for (const DirectoryEntry& entry : entries) {
    const auto file = aside_file_number(entry.name);
    if (file && entry.is_file) found[*file] = entry.bytes;
  }
  if (!found.empty()) next_file_ = first_of_run_ = found.rbegin()->first + 1;
  for (const auto& [file, bytes] : found) scan_file(file, bytes);
  publish();
  return true;
}

// A file that cannot be read has no records that could be told from others: their events are
// delivered again, as those above a watermark are anyway.
void AsideLog::scan_file(std::uint32_t file, std::uint64_t bytes) {
  files_[file].bytes = bytes;
  const auto opened = disk_.open(aside_file_name(file), OpenMode::read_only);
  const auto* const reading = std::get_if<std::unique_ptr<DiskFile>>(&opened);
  if (reading == nullptr) return;
  (void)scan_aside_file(**reading, [&](const AsideFound& found) {
    if (found.text.state == AsideState::rejected) return;  // copied here by somebody
    index_.note(found.text.position, {file, found.offset}, found.text.state);
    ++files_[file].lines;
  });
}

std::uint64_t AsideLog::bytes() const {
  std::uint64_t sum = 0;
  for (const auto& [number, file] : files_) sum += file.bytes;
  return sum;
}

bool AsideLog::append(const AsideRecord& record) {
  const std::string line = aside_line(record);
  if (file_ && end_ >= options_.file_bytes) file_.reset();
  constexpr int kFilesTried = 2;
  for (int i = 0; i < kFilesTried; ++i) {
    if (!has_room(line.size()) || (!file_ && !open_file())) return false;
    const std::uint64_t offset = end_;
    switch (write(line)) {
      case Written::yes:
        index_.note({record.segment, record.index}, {next_file_ - 1, offset}, record.state);
        gauges_.full.store(false, std::memory_order_relaxed);
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
bool AsideLog::has_room(std::size_t needed) {
  if (bytes() + needed <= options_.bytes_max) return true;
  std::vector<DirectoryEntry> entries;
  if (disk_.list(kAsideDirectory, entries)) return false;
  std::map<std::uint32_t, File> there;
  for (const DirectoryEntry& entry : entries) {
    const auto file = aside_file_number(entry.name);
    if (file && entry.is_file) there[*file] = {entry.bytes, files_[*file].lines};
  }
  files_ = std::move(there);
  const bool has = bytes() + needed <= options_.bytes_max;
  gauges_.full.store(!has, std::memory_order_relaxed);
  return has;
}

bool AsideLog::open_file() {
  if (!scanned_ && !(scanned_ = scan())) return false;
  if (!directory_durable_) {
    if (disk_.make_directory(kAsideDirectory)) return false;
    if (options_.sync && disk_.sync_directory("")) return false;
    directory_durable_ = true;
  }
  const std::string name = aside_file_name(next_file_);
  auto opened = disk_.open(name, OpenMode::create);
  if (const auto* error = std::get_if<std::error_code>(&opened)) {
    if (*error == std::errc::file_exists) ++next_file_;  // left by a failure of the next lines
    return false;
  }
  if (options_.sync && disk_.sync_directory(kAsideDirectory)) {
    (void)disk_.remove(name);
    return false;
  }
  file_ = std::move(std::get<std::unique_ptr<DiskFile>>(opened));
  end_ = 0;
  files_[next_file_] = {};
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
  File& file = files_[next_file_ - 1];
  file.bytes += line.size();
  ++file.lines;
  if (options_.sync && file_->sync()) return Written::poisoned;
  return Written::yes;
}

std::optional<std::vector<AsideEntry>> AsideLog::records_from(const Position& position) {
  if (!scanned_ && !(scanned_ = scan())) return std::nullopt;
  std::vector<AsideEntry> entries;
  for (const AsideIndex::Record& record : index_.records_of(position.segment)) {
    // One that is done with will be gone from the files soon: nobody may count on it.
    const bool counts = record.index >= position.index && record.fate != AsideFate::done;
    if (counts) entries.push_back(entry_of(record));
  }
  return entries;
}

// The reason stands in the file; one that cannot be read again is no reason to send the row.
AsideEntry AsideLog::entry_of(const AsideIndex::Record& record) const {
  AsideEntry entry{record.index, record.file >= first_of_run_, record.state, {}, {}, {}};
  if (entry.durable) return entry;
  entry.message = "refused before a restart";
  const auto opened = disk_.open(aside_file_name(record.file), OpenMode::read_only);
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

std::vector<AsideTry> AsideLog::to_try(const AsidePlace& after, std::size_t count) {
  if (!scanned_ && !(scanned_ = scan())) return {};
  return index_.to_try(after, count);
}

std::optional<AsideText> AsideLog::read(const Position& position) {
  const AsideIndex::Record* const record = index_.find(position);
  if (record == nullptr) return std::nullopt;
  const auto opened = disk_.open(aside_file_name(record->file), OpenMode::read_only);
  const auto* const reading = std::get_if<std::unique_ptr<DiskFile>>(&opened);
  if (reading == nullptr) return std::nullopt;
  const auto line = read_aside_line(**reading, record->offset);
  return line ? aside_text(*line) : std::nullopt;
}

void AsideLog::delivered(const Position& position) {
  index_.delivered(position, static_cast<std::uint32_t>(options_.steady_now_s()));
}

std::vector<RedeliveredCount> AsideLog::redelivered() const {
  return index_.redelivered();
}

std::uint64_t AsideLog::found_redelivered(const Uuid& segment,
                                          std::span<const std::uint64_t> indexes) {
  return index_.found_redelivered(segment, indexes,
                                  static_cast<std::uint32_t>(options_.steady_now_s()));
}

void AsideLog::purge(std::span<const Position> records) {
  for (const Position& record : records) index_.done(record);
  has_purged_ = true;
}

bool AsideLog::tend() {
  if (!scanned_) return false;
  if (renewing_.empty()) {
    take_purge_requests();
    const bool is_due = options_.steady_now_s() - renewed_s_ >= kRenewIntervalS;
    if (is_due || has_purged_ || !requests_.empty() || is_nearly_full()) {
      has_purged_ = false;
      let_go_of_delivered();
      renewing_ = files_to_renew();
    }
  }
  publish();
  if (!renewing_.empty()) {
    const std::uint32_t file = renewing_.back();
    renewing_.pop_back();
    if (!renew(file)) {
      // The newer files have to wait for this one.
      renewing_.clear();
      renewed_s_ = options_.steady_now_s();
      return false;
    }
  }
  if (!renewing_.empty()) return true;
  renewed_s_ = options_.steady_now_s();
  finish_purge_requests();
  return false;
}

void AsideLog::take_purge_requests() {
  std::vector<DirectoryEntry> entries;
  if (disk_.list(kAsideDirectory, entries)) return;
  for (const DirectoryEntry& entry : entries) {
    const std::string name = kAsideDirectory + '/' + entry.name;
    const bool is_known = std::find(requests_.begin(), requests_.end(), name) != requests_.end();
    if (!entry.is_file || !is_purge_request(entry.name) || is_known) continue;
    const auto records = read_purge_request(disk_, name);
    if (!records) continue;
    purge(*records);
    requests_.push_back(name);
  }
}

void AsideLog::finish_purge_requests() {
  std::erase_if(requests_, [&](const std::string& name) { return !disk_.remove(name); });
}

// When the files are nearly full these give way first, as retained segments do.
void AsideLog::let_go_of_delivered() {
  const std::int64_t now_s = options_.steady_now_s();
  const bool at_once = is_nearly_full();
  index_.done_if([&](const AsideIndex::Record& record) {
    return record.fate == AsideFate::delivered &&
           (at_once || now_s - record.delivered_s >= options_.retain_time.count());
  });
}

std::vector<std::uint32_t> AsideLog::files_to_renew() const {
  std::map<std::uint32_t, std::uint64_t> kept;
  index_.for_each([&](const AsideIndex::Record& record) {
    if (record.fate != AsideFate::done) ++kept[record.file];
  });
  std::vector<std::uint32_t> files;
  for (const auto& [number, file] : files_) {
    if (kept[number] < file.lines) files.push_back(number);
  }
  std::reverse(files.begin(), files.end());
  return files;
}

// False: the file stays as it is.
bool AsideLog::renew(std::uint32_t number) {
  if (file_ && number + 1 == next_file_) file_.reset();
  const std::string name = aside_file_name(number);
  const std::string temporary = name + ".tmp";
  (void)disk_.remove(temporary);
  const auto opened = disk_.open(name, OpenMode::read_only);
  const auto* const from = std::get_if<std::unique_ptr<DiskFile>>(&opened);
  if (from == nullptr) return false;
  const auto made = disk_.open(temporary, OpenMode::create);
  const auto* const to = std::get_if<std::unique_ptr<DiskFile>>(&made);
  if (to == nullptr) return false;
  const auto rewritten = copy_kept(number, **from, **to);
  const bool is_written = rewritten && !(options_.sync && (*to)->sync());
  if (!is_written || disk_.rename(temporary, name)) {
    (void)disk_.remove(temporary);
    return false;
  }
  renewed(number, *rewritten);
  if (rewritten->file.lines == 0 && !disk_.remove(name)) files_.erase(number);
  return !options_.sync || !disk_.sync_directory(kAsideDirectory);
}

std::optional<AsideLog::Rewritten> AsideLog::copy_kept(std::uint32_t number, DiskFile& from,
                                                       DiskFile& to) const {
  Rewritten rewritten;
  Output output(to);
  bool good = true;
  const auto error = scan_aside_file(from, [&](const AsideFound& found) {
    const AsideIndex::Record* const record = index_.find(found.text.position);
    const bool counts = record != nullptr && record->place() == AsidePlace{number, found.offset};
    if (!counts || record->fate == AsideFate::done) return;
    const std::uint64_t offset = output.end();
    const auto line = read_aside_line(from, found.offset);
    good = good && line && output.add(*line);
    rewritten.moved.push_back({found.text.position, offset});
  });
  if (error || !good || !output.flush()) return std::nullopt;
  rewritten.file = {output.end(), rewritten.moved.size()};
  return rewritten;
}

// The file under this name is the new one now.
void AsideLog::renewed(std::uint32_t number, const Rewritten& rewritten) {
  index_.forget_if([&](const AsideIndex::Record& record) {
    return record.file == number && record.fate == AsideFate::done;
  });
  for (const Moved& each : rewritten.moved) index_.move(each.position, {number, each.offset});
  files_[number] = rewritten.file;
}

void AsideLog::publish() {
  const AsideIndex::Counts counts = index_.counts();
  for (std::size_t i = 0; i < kAsideStateCount; ++i) {
    gauges_.records[i].store(counts.by_state[i], std::memory_order_relaxed);
  }
  gauges_.delivered.store(counts.delivered, std::memory_order_relaxed);
  gauges_.bytes.store(bytes(), std::memory_order_relaxed);
}

}  // namespace sluice::spool
