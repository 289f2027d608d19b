// The reading half of what recovery does, without its decisions.
#include "daemon/spool_survey.hpp"

#include <algorithm>
#include <system_error>
#include <utility>

#include "spool/keys_file.hpp"
#include "spool/posix_disk.hpp"

namespace sluice::daemon {

namespace {

using spool::BlockKind;

// Sorts one file into `files`. A file that was deleted since it was listed is left out.
void open_file(spool::Disk& disk, const std::string& name, const spool::SegmentName& named,
               SpoolFiles& files) {
  auto opened = disk.open(name, spool::OpenMode::read_only);
  if (const auto* error = std::get_if<std::error_code>(&opened)) {
    if (*error != std::errc::no_such_file_or_directory) {
      files.unreadable.push_back({name, error->message()});
    }
    return;
  }
  SegmentFile segment;
  segment.name = name;
  segment.file = std::move(std::get<std::unique_ptr<spool::DiskFile>>(opened));
  if (const auto error = segment.file->size(segment.bytes)) {
    files.unreadable.push_back({name, error.message()});
    return;
  }
  const auto header = spool::read_segment_header(*segment.file);
  if (const auto* other = std::get_if<spool::OtherVersion>(&header)) {
    files.newer_format = true;
    files.unreadable.push_back({name, "has format version " + std::to_string(other->version)});
    return;
  }
  if (const auto* good = std::get_if<spool::SegmentHeader>(&header)) {
    if (good->id != named.id || good->ordinal != named.ordinal) {
      files.unreadable.push_back({name, "is a segment with another name"});
      return;
    }
    segment.header = *good;
  } else {
    const auto rebuilt = spool::rebuild_segment_header(*segment.file, named, segment.bytes);
    if (!rebuilt) {
      files.unreadable.push_back({name, "has no segment's header"});
      return;
    }
    segment.header = *rebuilt;
    segment.is_rebuilt = true;
  }
  files.segments.push_back(std::move(segment));
}

std::vector<spool::DirectoryEntry> list(spool::Disk& disk, const std::string& directory) {
  std::vector<spool::DirectoryEntry> entries;
  const auto error = disk.list(directory, entries);
  if (error && (directory.empty() || error != std::errc::no_such_file_or_directory)) {
    throw std::system_error(error, "reading the spool's directory");
  }
  return entries;
}

SpoolFiles open_once(spool::Disk& disk) {
  SpoolFiles files;
  for (const spool::DirectoryEntry& entry : list(disk, "")) {
    const auto named = spool::parse_segment_name(entry.name, ".log");
    if (named) open_file(disk, entry.name, *named, files);
  }
  std::sort(files.segments.begin(), files.segments.end(),
            [](const SegmentFile& one, const SegmentFile& other) {
              return one.header.ordinal < other.header.ordinal;
            });
  for (std::size_t i = 1; i < files.segments.size(); ++i) {
    const std::uint64_t before = files.segments[i - 1].header.ordinal;
    const std::uint64_t ordinal = files.segments[i].header.ordinal;
    if (ordinal > before + 1) files.missing += ordinal - before - 1;
  }
  files.missing -= std::min<std::uint64_t>(files.missing, files.unreadable.size());
  files.quarantined = list(disk, "quarantine").size();
  return files;
}

// True if the daemon cut the file down below what was bad to us.
bool was_cut(const SegmentFile& segment, const spool::Damage& damage) {
  std::uint64_t bytes = 0;
  return !segment.file->size(bytes) && bytes < damage.end_offset && bytes < segment.bytes;
}

// Whether the daemon, or its crash, may have left the end of the segment's side file unwritten.
bool may_be_open(spool::Disk& disk, const spool::SegmentName& named) {
  auto opened =
      disk.open(spool::segment_name(named.ordinal, named.id, ".log"), spool::OpenMode::read_only);
  auto* const file = std::get_if<std::unique_ptr<spool::DiskFile>>(&opened);
  std::uint64_t bytes = 0;
  if (file == nullptr || (*file)->size(bytes)) return false;
  return bytes != spool::kSegmentHeaderBytes && !spool::read_seal(**file, named.id, bytes);
}

// Empty: all of it is good.
std::string what_is_bad(spool::Disk& disk, const std::string& name,
                        const spool::SegmentName& named) {
  const auto reader = spool::KeysReader::open(disk, name);
  if (!reader) return "has no side file's header";
  if (reader->segment() != named.id) return "is of another segment";
  bool cut = false;
  const std::vector<spool::KeysGroup> groups = reader->groups(cut);
  const bool is_open = may_be_open(disk, named);
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const bool may_be_torn = is_open && i + 1 == groups.size();
    if (!may_be_torn && !reader->keys(groups[i])) {
      return "bytes from " + std::to_string(groups[i].offset) + " on are damaged";
    }
  }
  return cut && !is_open ? "its end is damaged" : "";
}

// What the block says about the bad bytes right before it, if there were any.
void settle(SegmentSurvey& survey, const spool::ScannedBlock& block) {
  const std::uint64_t first = block.header.first_index;
  if (!survey.bad.empty() && survey.bad.back().end_offset == block.offset) {
    survey.bad.back().events = first - std::min(first, survey.end_index);
  }
  survey.end_index = std::max(survey.end_index, block.header.end_index());
}

}  // namespace

SpoolFiles open_spool_files(const std::string& directory) {
  spool::PosixDisk disk(directory);
  SpoolFiles files = open_once(disk);
  // A directory that changes while it is listed may seem to have a hole.
  if (files.missing > 0) files = open_once(disk);
  return files;
}

SegmentSurvey survey_segment(const SegmentFile& segment,
                             const std::function<void(const spool::ScannedBlock&)>& visit) {
  SegmentSurvey survey;
  if (segment.is_rebuilt) survey.bad.push_back({0, spool::kSegmentHeaderBytes, 0, std::nullopt});
  spool::SegmentScan scan(*segment.file, segment.header.id);
  for (;;) {
    const auto step = scan.next(segment.bytes);
    if (std::holds_alternative<spool::ScanEnd>(step)) return survey;
    if (const auto* damage = std::get_if<spool::Damage>(&step)) {
      if (was_cut(segment, *damage)) return survey;
      survey.bad.push_back(
          {damage->offset, damage->end_offset, survey.end_index, std::nullopt, scan.read_error()});
      continue;
    }
    const auto& block = std::get<spool::ScannedBlock>(step);
    ++survey.blocks;
    settle(survey, block);
    survey.synced_bytes = std::max(survey.synced_bytes, block.header.synced_upto);
    survey.sealed = block.header.kind == BlockKind::seal;
    if (block.header.kind == BlockKind::head) {
      survey.refs = spool::refs_in(block.header, block.payload);
    }
    visit(block);
  }
}

std::vector<BadKeysFile> survey_keys(spool::Disk& disk) {
  std::vector<BadKeysFile> bad;
  for (const spool::DirectoryEntry& entry : list(disk, "")) {
    const auto named = spool::parse_segment_name(entry.name, ".keys");
    // One that is empty was just made, or was taken back.
    if (!named || entry.bytes == 0) continue;
    const std::string reason = what_is_bad(disk, entry.name, *named);
    if (reason.empty()) continue;
    // The daemon may have deleted it meanwhile.
    const auto again = disk.open(entry.name, spool::OpenMode::read_only);
    if (std::holds_alternative<std::unique_ptr<spool::DiskFile>>(again)) {
      bad.push_back({entry.name, reason});
    }
  }
  return bad;
}

}  // namespace sluice::daemon
