// The side file that remembers the dedupe keys of one segment's events.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <system_error>
#include <vector>

#include "spool/disk.hpp"
#include "spool/segment_scan.hpp"
#include "spool/uuid.hpp"

namespace sluice::spool {

struct StoredKey {
  std::uint64_t first;
  std::uint64_t second;
};

// The keys of the records in the bytes, which are whole records.
void collect_keys(Bytes records, std::vector<StoredKey>& keys);

// Thread: the journal's.
class KeysWriter final {
 public:
  // None if the file cannot be made; `error` says why.
  [[nodiscard]] static std::unique_ptr<KeysWriter> create(Disk& disk, const std::string& name,
                                                          const Uuid& segment,
                                                          std::error_code& error);

  // Nothing is written for no keys.
  [[nodiscard]] std::error_code append(std::int64_t written_us, std::span<const StoredKey> keys);
  [[nodiscard]] std::error_code sync() { return file_->sync(); }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }

 private:
  KeysWriter(std::unique_ptr<DiskFile> file, const Uuid& segment)
      : file_(std::move(file)), segment_(segment) {}

  const std::unique_ptr<DiskFile> file_;
  const Uuid segment_;
  std::uint64_t bytes_ = 0;
};

// A group of keys in a file.
struct KeysGroup {
  std::int64_t written_us = 0;  // since the Unix epoch
  std::uint64_t offset = 0;     // of the group
  std::uint32_t count = 0;
  std::uint64_t end_offset = 0;
};

// Reads what is whole of a side file. Thread: one.
class KeysReader final {
 public:
  // None if there is no such file, or it is not one.
  [[nodiscard]] static std::unique_ptr<KeysReader> open(Disk& disk, const std::string& name);

  [[nodiscard]] const Uuid& segment() const { return segment_; }
  // The groups in order, without their keys; `cut` tells that bad bytes ended the list.
  [[nodiscard]] std::vector<KeysGroup> groups(bool& cut);
  // The group's keys; none if they are damaged.
  [[nodiscard]] std::optional<std::vector<StoredKey>> keys(const KeysGroup& group);

 private:
  KeysReader(std::unique_ptr<DiskFile> file, const Uuid& segment, std::uint64_t bytes)
      : file_(std::move(file)), segment_(segment), bytes_(bytes) {}

  const std::unique_ptr<DiskFile> file_;
  const Uuid segment_;
  const std::uint64_t bytes_;
  FileWindow window_{*file_, 64 * 1024};
};

}  // namespace sluice::spool
