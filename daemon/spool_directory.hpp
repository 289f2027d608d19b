// The directory of the spool on disk, made if it is missing and held by this process alone.
#pragma once

#include <stdexcept>
#include <string>

#include "daemon/file_lock.hpp"
#include "spool/posix_disk.hpp"

namespace sluice::daemon {

// The directory cannot be had. The message says why and what to do.
class SpoolDirectoryError final : public std::runtime_error {
 public:
  enum class Kind {
    configuration,  // a person must change the path or the rights
    system,         // the disk refuses
  };

  SpoolDirectoryError(Kind kind, const std::string& message)
      : std::runtime_error(message), kind_(kind) {}
  [[nodiscard]] Kind kind() const { return kind_; }

 private:
  Kind kind_;
};

// Held until destruction.
class SpoolDirectory final {
 public:
  // Makes the directory (not those above it) with mode 0700 and takes the lock in it. Throws
  // SpoolDirectoryError; LockedError if another process has it.
  explicit SpoolDirectory(const std::string& path);
  SpoolDirectory(const SpoolDirectory&) = delete;
  SpoolDirectory& operator=(const SpoolDirectory&) = delete;

  [[nodiscard]] spool::Disk& disk() { return disk_; }

  // The file whose lock stands for a directory.
  [[nodiscard]] static std::string lock_path(const std::string& directory);

 private:
  const FileLock lock_;
  spool::PosixDisk disk_;
};

}  // namespace sluice::daemon
