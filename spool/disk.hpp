// The one directory on disk that the spool lives in, seen as the few calls that it makes. The edge
// between the spool and the world: POSIX behind it in the daemon, a fake that forgets unsynced
// bytes in tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <variant>
#include <vector>

namespace sluice::spool {

using Bytes = std::span<const std::byte>;

// An open file. Reads may come from another thread than writes, syncs and truncates.
class DiskFile {
 public:
  virtual ~DiskFile() = default;

  // Writes the pieces one after the other from `offset` on, through short writes and EINTR. After a
  // failure any part of them may be there.
  [[nodiscard]] virtual std::error_code write(std::uint64_t offset,
                                              std::span<const Bytes> pieces) = 0;
  // Fills `into` from `offset` on. `got` is less than asked for only where the file ends.
  [[nodiscard]] virtual std::error_code read(std::uint64_t offset, std::span<std::byte> into,
                                             std::size_t& got) = 0;
  // fdatasync. After a failure nobody knows what of the file is on the medium, and another call
  // that succeeds says nothing: the kernel has forgotten the pages.
  [[nodiscard]] virtual std::error_code sync() = 0;
  [[nodiscard]] virtual std::error_code truncate(std::uint64_t bytes) = 0;
  // Takes space on the medium for the first `bytes` of the file (posix_fallocate).
  [[nodiscard]] virtual std::error_code allocate(std::uint64_t bytes) = 0;
  [[nodiscard]] virtual std::error_code size(std::uint64_t& bytes) = 0;
  // Makes the next read come from the medium where that can be had; what was not synced stays.
  virtual void drop_cache() = 0;
};

enum class OpenMode {
  create,  // a new file, mode 0600; fails if the name is taken
  read_only,
  read_write,  // an existing file
};

struct DirectoryEntry {
  std::string name;
  std::uint64_t bytes = 0;
  bool is_file = false;  // a plain file
};

// Names are relative to the spool's directory and have at most one '/'.
//
// Threads: any; each call stands for itself.
class Disk {
 public:
  virtual ~Disk() = default;

  [[nodiscard]] virtual std::variant<std::unique_ptr<DiskFile>, std::error_code> open(
      const std::string& name, OpenMode mode) = 0;
  [[nodiscard]] virtual std::error_code rename(const std::string& from, const std::string& to) = 0;
  [[nodiscard]] virtual std::error_code remove(const std::string& name) = 0;
  // fsync of the spool's directory (empty name) or of one inside it.
  [[nodiscard]] virtual std::error_code sync_directory(const std::string& name) = 0;
  // A directory with mode 0700; no error if it is there.
  [[nodiscard]] virtual std::error_code make_directory(const std::string& name) = 0;
  [[nodiscard]] virtual std::error_code list(const std::string& directory,
                                             std::vector<DirectoryEntry>& entries) = 0;
};

}  // namespace sluice::spool
