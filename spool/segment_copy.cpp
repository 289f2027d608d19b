#include "spool/segment_copy.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <variant>
#include <vector>

namespace sluice::spool {
namespace {

constexpr std::size_t kPieceBytes = 256 * 1024;

std::error_code copy_bytes(DiskFile& from, DiskFile& to, std::uint64_t bytes) {
  std::vector<std::byte> buffer(
      static_cast<std::size_t>(std::min<std::uint64_t>(bytes, kPieceBytes)));
  for (std::uint64_t at = 0; at < bytes;) {
    const auto wanted = std::min<std::uint64_t>(buffer.size(), bytes - at);
    const auto piece = std::span(buffer).first(static_cast<std::size_t>(wanted));
    std::size_t got = 0;
    if (const auto error = from.read(at, piece, got)) return error;
    if (got < piece.size()) return std::make_error_code(std::errc::io_error);
    const std::array<Bytes, 1> pieces{piece};
    if (const auto error = to.write(at, pieces)) return error;
    at += wanted;
  }
  return {};
}

std::error_code write_copy(Disk& disk, const SegmentContent& content) {
  const auto source = disk.open(content.name, OpenMode::read_only);
  if (const auto* error = std::get_if<std::error_code>(&source)) return *error;
  (void)disk.remove(content.temporary_name);  // of a try before that could not
  const auto made = disk.open(content.temporary_name, OpenMode::create);
  if (const auto* error = std::get_if<std::error_code>(&made)) return *error;
  DiskFile& copy = *std::get<0>(made);
  std::error_code error = copy_bytes(*std::get<0>(source), copy, content.kept_bytes);
  const std::array<Bytes, 1> tail{content.tail};
  if (!error) error = copy.write(content.kept_bytes, tail);
  if (!error) error = copy.sync();
  return error;
}

}  // namespace

std::error_code replace_by_copy(Disk& disk, const SegmentContent& content) {
  std::error_code error = write_copy(disk, content);
  if (!error) error = disk.rename(content.temporary_name, content.name);
  if (error) {
    (void)disk.remove(content.temporary_name);
    return error;
  }
  return disk.sync_directory("");
}

}  // namespace sluice::spool
