#include "daemon/kept_segments.hpp"

#include <algorithm>
#include <memory>
#include <system_error>
#include <variant>

#include "spool/aside_scan.hpp"
#include "spool/posix_disk.hpp"
#include "spool/segment_format.hpp"

namespace sluice::daemon {

namespace {

using Segments = std::vector<spool::Uuid>;

bool is_gone(const std::error_code& error) {
  return error == std::errc::no_such_file_or_directory;
}

// Each returns false if something could not be read.

bool add_files(spool::Disk& disk, const std::string& directory, Segments& segments) {
  std::vector<spool::DirectoryEntry> entries;
  const auto error = disk.list(directory, entries);
  if (error) return is_gone(error) && !directory.empty();
  for (const spool::DirectoryEntry& entry : entries) {
    // Copies in quarantine have more behind their name.
    const std::string name = entry.name.substr(0, entry.name.find(".log")) + ".log";
    if (const auto segment = spool::parse_segment_name(name, ".log"))
      segments.push_back(segment->id);
  }
  return true;
}

bool add_records(spool::Disk& disk, const std::string& name, Segments& segments) {
  auto opened = disk.open(name, spool::OpenMode::read_only);
  if (const auto* error = std::get_if<std::error_code>(&opened)) return is_gone(*error);
  auto& file = *std::get<std::unique_ptr<spool::DiskFile>>(opened);
  return !spool::scan_aside_file(file, [&](const spool::AsideFound& found) {
    const spool::Uuid& segment = found.text.position.segment;
    if (segments.empty() || segments.back() != segment) segments.push_back(segment);
  });
}

bool add_all_records(spool::Disk& disk, Segments& segments) {
  std::vector<spool::DirectoryEntry> entries;
  if (const auto error = disk.list(spool::kAsideDirectory, entries)) return is_gone(error);
  return std::all_of(entries.begin(), entries.end(), [&](const spool::DirectoryEntry& entry) {
    return !spool::aside_file_number(entry.name) ||
           add_records(disk, spool::kAsideDirectory + "/" + entry.name, segments);
  });
}

}  // namespace

std::optional<Segments> kept_segments(const std::string& directory) {
  try {
    spool::PosixDisk disk(directory);
    Segments segments;
    if (!add_files(disk, "", segments) || !add_files(disk, "quarantine", segments) ||
        !add_all_records(disk, segments)) {
      return std::nullopt;
    }
    return segments;
  } catch (const std::system_error&) {
    return std::nullopt;
  }
}

}  // namespace sluice::daemon
