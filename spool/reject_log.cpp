#include "spool/reject_log.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <span>
#include <system_error>
#include <utility>
#include <variant>

#include "spool/aside.hpp"
#include "spool/aside_line.hpp"
#include "spool/aside_scan.hpp"
#include "spool/reject_purge.hpp"

namespace sluice::spool {
namespace {

constexpr std::string_view kPrefix = "rejects-";
constexpr std::string_view kSuffix = ".ndjson";
// How often the directory is looked at while lines come: somebody may have taken files away.
constexpr std::int64_t kLookMs = 1'000;
constexpr std::size_t kWriteBytes = 1u << 20;
// What a line costs beside its text while it waits.
constexpr std::size_t kPendingOverhead = 128;

}  // namespace

RejectLog::RejectLog(RejectLogOptions options, Disk& disk, const Uuid& run)
    : options_(std::move(options)), disk_(disk), run_(run) {}

void RejectLog::keep(const RejectedLine& rejected) {
  const std::size_t bytes = rejected.line.size() + kPendingOverhead;
  if (options_.bytes_max == 0 || full_.load(std::memory_order_relaxed)) {
    unkept_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  const std::lock_guard lock(mutex_);
  if (!pending_.empty() && pending_bytes_ + bytes > options_.pending_bytes_max) {
    unkept_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  pending_.push_back({rejected, std::string(rejected.line)});
  pending_.back().rejected.line = {};
  pending_bytes_ += bytes;
  has_pending_.store(true, std::memory_order_relaxed);
}

void RejectLog::write(std::int64_t now_ms) {
  let_go_if_asked(now_ms);
  const bool has_pending = has_pending_.load(std::memory_order_relaxed);
  // Files that were let go of get smaller without us.
  const bool may_shrink = full_.load(std::memory_order_relaxed) || (!file_ && bytes() > 0);
  if (!has_pending && !may_shrink) return;
  look(now_ms);
  if (!has_pending) return;
  std::vector<Pending> lines;
  {
    const std::lock_guard lock(mutex_);
    lines.swap(pending_);
    pending_bytes_ = 0;
    has_pending_.store(false, std::memory_order_relaxed);
  }
  write_lines(lines);
}

void RejectLog::let_go_if_asked(std::int64_t now_ms) {
  if (now_ms - asked_ms_ < kLookMs) return;
  asked_ms_ = now_ms;
  if (!take_request_to_let_go_of_rejects(disk_)) return;
  file_.reset();
  looked_ms_.reset();
}

// What is there, and whether the file that is written still is.
void RejectLog::look(std::int64_t now_ms) {
  if (looked_ms_ && now_ms - *looked_ms_ < kLookMs) return;
  looked_ms_ = now_ms;
  std::vector<DirectoryEntry> entries;
  const std::error_code error = disk_.list(kAsideDirectory, entries);
  if (error && error != std::errc::no_such_file_or_directory) return;
  std::uint64_t bytes = 0;
  bool is_there = false;
  for (const DirectoryEntry& entry : entries) {
    const auto number = reject_file_number(entry.name);
    if (!number || !entry.is_file) continue;
    bytes += entry.bytes;
    is_there = is_there || *number + 1 == next_file_;
    if (!file_) next_file_ = std::max(next_file_, *number + 1);
  }
  if (!is_there) file_.reset();
  bytes_.store(bytes, std::memory_order_relaxed);
  if (bytes <= options_.bytes_max / 10 * 9) set_full(false);
}

void RejectLog::set_full(bool full) {
  if (full_.exchange(full, std::memory_order_relaxed) != full) options_.on_full(full);
}

bool RejectLog::open_file() {
  if (disk_.make_directory(kAsideDirectory)) return false;
  auto opened = disk_.open(reject_file_name(next_file_), OpenMode::create);
  auto* const file = std::get_if<std::unique_ptr<DiskFile>>(&opened);
  ++next_file_;
  if (file == nullptr) return false;
  file_ = std::move(*file);
  file_end_ = 0;
  return true;
}

void RejectLog::write_lines(const std::vector<Pending>& lines) {
  std::string text;
  std::uint64_t count = 0;
  for (const Pending& pending : lines) {
    const std::string line = line_of(pending);
    if (bytes() + text.size() + line.size() > options_.bytes_max) {
      unkept_.fetch_add(1, std::memory_order_relaxed);
      set_full(true);
      continue;
    }
    text += line;
    ++count;
    if (text.size() < kWriteBytes) continue;
    flush(text, std::exchange(count, 0));
  }
  flush(text, count);
}

void RejectLog::flush(std::string& text, std::uint64_t lines) {
  if (lines == 0) return;
  if (file_ && file_end_ >= options_.file_bytes) file_.reset();
  const std::array<Bytes, 1> pieces{std::as_bytes(std::span(text))};
  const bool is_written = (file_ || open_file()) && !file_->write(file_end_, pieces);
  (is_written ? kept_ : unkept_).fetch_add(lines, std::memory_order_relaxed);
  if (is_written) {
    file_end_ += text.size();
    bytes_.fetch_add(text.size(), std::memory_order_relaxed);
  } else {
    file_.reset();  // a part of a line may be at its end
  }
  text.clear();
}

std::string RejectLog::line_of(const Pending& pending) {
  const RejectedLine& rejected = pending.rejected;
  const std::string message =
      "line " + std::to_string(rejected.number) + " of connection " +
      std::to_string(rejected.connection) +
      (rejected.line_bytes == 0 ? "" : ", " + std::to_string(rejected.line_bytes) + " bytes");
  AsideRecord record;
  record.state = AsideState::rejected;
  record.segment = run_;
  record.index = next_index_++;
  record.time_us = record.received_us = rejected.received_us;
  record.uid = rejected.uid;
  record.sqlstate = rejected.code;
  record.message = message;
  record.line = pending.line;
  return aside_line(record);
}

std::string reject_file_name(std::uint32_t file) {
  return kAsideDirectory + '/' + std::string(kPrefix) + std::to_string(file) + std::string(kSuffix);
}

std::optional<std::uint32_t> reject_file_number(std::string_view name) {
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return std::nullopt;
  name = name.substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size());
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  const bool is_number = error == std::errc() && end == name.data() + name.size();
  return is_number ? std::optional(number) : std::nullopt;
}

}  // namespace sluice::spool
