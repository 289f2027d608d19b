#include "spool/keys_file.hpp"

#include <array>
#include <cstring>
#include <utility>

#include "spool/crc32c.hpp"
#include "spool/event_record.hpp"
#include "spool/segment_format.hpp"

namespace sluice::spool {
namespace {

// docs/spool_format.md, `.keys`.
struct FileHeader {
  char magic[8];
  std::uint32_t version;
  std::uint32_t header_bytes;
  Uuid segment;
  std::uint32_t zero;
  std::uint32_t crc;  // of the bytes before
};
static_assert(sizeof(FileHeader) == 40);

struct GroupHeader {
  std::int64_t written_us;
  std::uint32_t count;
  std::uint32_t crc;
};
static_assert(sizeof(GroupHeader) == 16);
static_assert(sizeof(StoredKey) == 16);

FileHeader header_of(const Uuid& segment) {
  FileHeader header{
      {'S', 'L', 'U', 'I', 'C', 'E', 'K', 'Y'}, kFormatVersion, sizeof(FileHeader), segment, 0, 0};
  Crc32c crc;
  crc.add(std::as_bytes(std::span(&header, 1)).first(36));
  header.crc = crc.value();
  return header;
}

std::uint32_t group_crc(const Uuid& segment, std::int64_t written_us,
                        std::span<const StoredKey> keys) {
  Crc32c crc;
  crc.add_value(segment);
  crc.add_value(written_us);
  crc.add_value(static_cast<std::uint32_t>(keys.size()));
  crc.add(std::as_bytes(keys));
  return crc.value();
}

}  // namespace

void collect_keys(Bytes records, std::vector<StoredKey>& keys) {
  for (std::size_t at = 0; at < records.size();) {
    const RecordHeader& header = EventView(records.data() + at).header();
    if ((header.flags & (kHasDedupeKey | kHasIdKey)) != 0) {
      keys.push_back({header.dedupe_hash[0], header.dedupe_hash[1]});
    }
    at += header.record_bytes;
  }
}

std::unique_ptr<KeysWriter> KeysWriter::create(Disk& disk, const std::string& name,
                                               const Uuid& segment, std::error_code& error) {
  auto opened = disk.open(name, OpenMode::create);
  if (const auto* failed = std::get_if<std::error_code>(&opened)) {
    error = *failed;
    return nullptr;
  }
  std::unique_ptr<KeysWriter> writer(new KeysWriter(std::move(std::get<0>(opened)), segment));
  const FileHeader header = header_of(segment);
  const std::array<Bytes, 1> pieces{std::as_bytes(std::span(&header, 1))};
  error = writer->file_->write(0, pieces);
  if (error) return nullptr;
  writer->bytes_ = sizeof header;
  return writer;
}

std::error_code KeysWriter::append(std::int64_t written_us, std::span<const StoredKey> keys) {
  if (keys.empty()) return {};
  const GroupHeader header{written_us, static_cast<std::uint32_t>(keys.size()),
                           group_crc(segment_, written_us, keys)};
  const std::array<Bytes, 2> pieces{std::as_bytes(std::span(&header, 1)), std::as_bytes(keys)};
  if (const auto error = file_->write(bytes_, pieces)) return error;
  bytes_ += sizeof header + keys.size_bytes();
  return {};
}

std::unique_ptr<KeysReader> KeysReader::open(Disk& disk, const std::string& name) {
  auto opened = disk.open(name, OpenMode::read_only);
  if (std::holds_alternative<std::error_code>(opened)) return nullptr;
  auto& file = std::get<0>(opened);
  FileHeader header{};
  std::size_t got = 0;
  std::uint64_t bytes = 0;
  if (file->read(0, std::as_writable_bytes(std::span(&header, 1)), got) || got < sizeof header) {
    return nullptr;
  }
  if (file->size(bytes)) return nullptr;
  const FileHeader expected = header_of(header.segment);
  if (std::memcmp(&header, &expected, sizeof header) != 0) return nullptr;
  return std::unique_ptr<KeysReader>(new KeysReader(std::move(file), header.segment, bytes));
}

std::vector<KeysGroup> KeysReader::groups(bool& cut) {
  std::vector<KeysGroup> groups;
  std::uint64_t at = sizeof(FileHeader);
  while (at < bytes_) {
    GroupHeader header{};
    const Bytes bytes = window_.at(at, sizeof header, bytes_);
    if (bytes.size() < sizeof header) break;
    std::memcpy(&header, bytes.data(), sizeof header);
    const std::uint64_t end = at + sizeof header + std::uint64_t{header.count} * sizeof(StoredKey);
    if (header.count == 0 || end > bytes_) break;
    groups.push_back({header.written_us, at, header.count, end});
    at = end;
  }
  cut = at != bytes_;
  return groups;
}

std::optional<std::vector<StoredKey>> KeysReader::keys(const KeysGroup& group) {
  const std::size_t keys_bytes = std::size_t{group.count} * sizeof(StoredKey);
  const Bytes bytes = window_.at(group.offset, sizeof(GroupHeader) + keys_bytes, bytes_);
  if (bytes.size() < sizeof(GroupHeader) + keys_bytes) return std::nullopt;
  GroupHeader header{};
  std::memcpy(&header, bytes.data(), sizeof header);
  std::vector<StoredKey> keys(group.count);
  std::memcpy(keys.data(), bytes.data() + sizeof header, keys_bytes);
  if (group_crc(segment_, group.written_us, keys) != header.crc) return std::nullopt;
  return keys;
}

}  // namespace sluice::spool
