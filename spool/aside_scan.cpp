#include "spool/aside_scan.hpp"

#include <algorithm>
#include <charconv>
#include <span>
#include <utility>
#include <vector>

#include "spool/aside_line.hpp"

namespace sluice::spool {
namespace {

constexpr std::string_view kPrefix = "dead-";
constexpr std::string_view kSuffix = ".ndjson";
constexpr std::size_t kReadBytes = 256 * 1024;
// A line of 16 MiB in which each byte is escaped as six.
constexpr std::size_t kLineBytesMax = 128u << 20;

// Only the heads of lines are kept: a line may be long.
class LineScan {
 public:
  explicit LineScan(const std::function<void(AsideFound)>& found) : found_(found) {}

  void take(std::string_view bytes) {
    while (!bytes.empty()) {
      const std::size_t newline = bytes.find('\n');
      add(bytes.substr(0, newline));
      if (newline == std::string_view::npos) return;
      end_line();
      bytes.remove_prefix(newline + 1);
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
  void end_line() {
    const auto checksum = aside_checksum(head_);
    if (checksum && *checksum == rest_.value()) {
      if (auto text = aside_head(head_)) found_({offset_, line_bytes_ + 1, std::move(*text)});
    }
    offset_ += line_bytes_ + 1;
    line_bytes_ = 0;
    head_.clear();
    rest_ = {};
  }

  const std::function<void(AsideFound)>& found_;
  std::string head_;
  Crc32c rest_;
  std::size_t line_bytes_ = 0;
  std::uint64_t offset_ = 0;  // of the line
};

}  // namespace

std::string aside_file_name(std::uint32_t file) {
  return kAsideDirectory + '/' + std::string(kPrefix) + std::to_string(file) + std::string(kSuffix);
}

std::optional<std::uint32_t> aside_file_number(std::string_view name) {
  if (!name.starts_with(kPrefix) || !name.ends_with(kSuffix)) return std::nullopt;
  name = name.substr(kPrefix.size(), name.size() - kPrefix.size() - kSuffix.size());
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  const bool is_number = error == std::errc() && end == name.data() + name.size();
  return is_number ? std::optional(number) : std::nullopt;
}

std::error_code scan_aside_file(DiskFile& file, const std::function<void(AsideFound)>& found) {
  LineScan lines(found);
  std::vector<std::byte> buffer(kReadBytes);
  std::size_t got = buffer.size();
  for (std::uint64_t at = 0; got == buffer.size(); at += got) {
    if (const auto error = file.read(at, buffer, got)) return error;
    lines.take({reinterpret_cast<const char*>(buffer.data()), got});
  }
  return {};
}

std::optional<std::string> read_aside_line(DiskFile& file, std::uint64_t offset) {
  std::string line;
  for (std::size_t bytes = kAsideHeadBytes; line.size() < kLineBytesMax; bytes *= 2) {
    const std::size_t before = line.size();
    line.resize(before + bytes);
    std::size_t got = 0;
    const auto into = std::as_writable_bytes(std::span(line)).subspan(before);
    if (file.read(offset + before, into, got)) return std::nullopt;
    line.resize(before + got);
    const std::size_t newline = line.find('\n', before);
    if (newline != std::string::npos) {
      line.resize(newline + 1);
      return line;
    }
    if (got < bytes) return std::nullopt;
  }
  return std::nullopt;
}

}  // namespace sluice::spool
