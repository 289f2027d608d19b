// The spool's directory on a real file system: spool/disk.hpp by POSIX calls.
#pragma once

#include <memory>
#include <string>
#include <system_error>
#include <variant>
#include <vector>

#include "spool/disk.hpp"

namespace sluice::spool {

// Holds the directory open: names stay inside it even if it is renamed. No name is followed through
// a symbolic link.
//
// Errors are errno's, of std::system_category. Threads: any; each call stands for itself.
class PosixDisk final : public Disk {
 public:
  // REQUIRES: the directory exists. Throws std::system_error if it cannot be opened.
  explicit PosixDisk(const std::string& directory);
  PosixDisk(const PosixDisk&) = delete;
  PosixDisk& operator=(const PosixDisk&) = delete;
  ~PosixDisk() override;

  [[nodiscard]] std::variant<std::unique_ptr<DiskFile>, std::error_code> open(
      const std::string& name, OpenMode mode) override;
  [[nodiscard]] std::error_code rename(const std::string& from, const std::string& to) override;
  [[nodiscard]] std::error_code remove(const std::string& name) override;
  [[nodiscard]] std::error_code sync_directory(const std::string& name) override;
  [[nodiscard]] std::error_code make_directory(const std::string& name) override;
  [[nodiscard]] std::error_code list(const std::string& directory,
                                     std::vector<DirectoryEntry>& entries) override;

 private:
  [[nodiscard]] int open_directory(const std::string& name) const;

  const int directory_;
};

}  // namespace sluice::spool
