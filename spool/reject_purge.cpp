#include "spool/reject_purge.hpp"

#include <array>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <variant>

#include "spool/aside_scan.hpp"
#include "spool/reject_log.hpp"

namespace sluice::spool {
namespace {

struct Copied {
  std::uint64_t bytes = 0;
  std::size_t left_out = 0;
};

std::error_code write_at(DiskFile& file, std::uint64_t offset, std::string_view text) {
  const std::array<Bytes, 1> pieces{std::as_bytes(std::span(text))};
  return file.write(offset, pieces);
}

// Good lines only: what a crash cut short is no record, and nothing is lost with it.
std::error_code copy_without(const std::set<Position>& lines, DiskFile& from, DiskFile& to,
                             Copied& copied) {
  std::error_code failed;
  const auto error = scan_aside_file(from, [&](const AsideFound& found) {
    if (failed) return;
    if (lines.contains(found.text.position)) {
      ++copied.left_out;
      return;
    }
    const auto line = read_aside_line(from, found.offset);
    failed = line ? write_at(to, copied.bytes, *line) : std::make_error_code(std::errc::io_error);
    if (line) copied.bytes += line->size();
  });
  return error ? error : failed;
}

}  // namespace

std::error_code ask_to_let_go_of_rejects(Disk& disk) {
  const auto opened = disk.open(kRejectPurgeRequest, OpenMode::create);
  const auto* const error = std::get_if<std::error_code>(&opened);
  return error == nullptr || *error == std::errc::file_exists ? std::error_code() : *error;
}

bool take_request_to_let_go_of_rejects(Disk& disk) {
  // There seldom is one, and a look changes nothing in the directory.
  const auto opened = disk.open(kRejectPurgeRequest, OpenMode::read_only);
  return std::holds_alternative<std::unique_ptr<DiskFile>>(opened) &&
         !disk.remove(kRejectPurgeRequest);
}

std::error_code purge_reject_file(Disk& disk, std::uint32_t number, const std::set<Position>& lines,
                                  std::size_t& purged) {
  const std::string name = reject_file_name(number);
  const std::string temporary = name + ".tmp";
  (void)disk.remove(temporary);
  const auto opened = disk.open(name, OpenMode::read_only);
  if (const auto* error = std::get_if<std::error_code>(&opened)) return *error;
  const auto made = disk.open(temporary, OpenMode::create);
  if (const auto* error = std::get_if<std::error_code>(&made)) return *error;
  DiskFile& from = *std::get<std::unique_ptr<DiskFile>>(opened);
  DiskFile& to = *std::get<std::unique_ptr<DiskFile>>(made);
  Copied copied;
  std::error_code error = copy_without(lines, from, to, copied);
  if (!error) error = to.sync();
  const bool is_empty = copied.bytes == 0;
  if (!error && !is_empty) error = disk.rename(temporary, name);
  if (!error && is_empty) error = disk.remove(name);
  if (error || is_empty) (void)disk.remove(temporary);
  if (error) return error;
  purged += copied.left_out;
  return disk.sync_directory(kAsideDirectory);
}

}  // namespace sluice::spool
