#include "spool/purge_request.hpp"

#include <array>
#include <charconv>
#include <memory>
#include <variant>

#include "spool/aside_scan.hpp"

namespace sluice::spool {
namespace {

constexpr std::string_view kPrefix = "purge-";
constexpr std::string_view kSuffix = ".list";
constexpr std::size_t kUuidBytes = 36;

std::optional<Position> position_of(std::string_view line) {
  if (line.size() < kUuidBytes + 2 || line[kUuidBytes] != ' ') return std::nullopt;
  const auto segment = Uuid::parse(line.substr(0, kUuidBytes));
  Position position;
  const char* const end = line.data() + line.size();
  const auto [stop, error] = std::from_chars(line.data() + kUuidBytes + 1, end, position.index);
  if (!segment || error != std::errc() || stop != end) return std::nullopt;
  position.segment = *segment;
  return position;
}

std::error_code write_file(Disk& disk, const std::string& name, const std::string& text) {
  auto opened = disk.open(name, OpenMode::create);
  if (const auto* error = std::get_if<std::error_code>(&opened)) return *error;
  DiskFile& file = *std::get<std::unique_ptr<DiskFile>>(opened);
  const std::array<Bytes, 1> pieces{std::as_bytes(std::span(text))};
  if (const auto error = file.write(0, pieces)) return error;
  return file.sync();
}

}  // namespace

std::error_code write_purge_request(Disk& disk, std::span<const Position> records,
                                    std::string& name) {
  const std::string stem = kAsideDirectory + '/' + std::string(kPrefix) + Uuid::random().text();
  const std::string written = stem + ".tmp";
  name = stem + std::string(kSuffix);
  std::string text;
  for (const Position& record : records) {
    text += record.segment.text() + ' ' + std::to_string(record.index) + '\n';
  }
  std::error_code error = write_file(disk, written, text);
  if (!error) error = disk.rename(written, name);
  if (error) {
    (void)disk.remove(written);
    return error;
  }
  return disk.sync_directory(kAsideDirectory);
}

bool is_purge_request(std::string_view name) {
  return name.starts_with(kPrefix) && name.ends_with(kSuffix);
}

std::optional<std::vector<Position>> read_purge_request(Disk& disk, const std::string& name) {
  const auto opened = disk.open(name, OpenMode::read_only);
  const auto* const file = std::get_if<std::unique_ptr<DiskFile>>(&opened);
  std::uint64_t bytes = 0;
  if (file == nullptr || (*file)->size(bytes)) return std::nullopt;
  std::string text(bytes, '\0');
  std::size_t got = 0;
  if ((*file)->read(0, std::as_writable_bytes(std::span(text)), got)) return std::nullopt;
  std::vector<Position> records;
  std::string_view left = std::string_view(text).substr(0, got);
  while (!left.empty()) {
    const std::size_t newline = left.find('\n');
    if (newline == std::string_view::npos) break;
    if (const auto position = position_of(left.substr(0, newline))) records.push_back(*position);
    left.remove_prefix(newline + 1);
  }
  return records;
}

}  // namespace sluice::spool
