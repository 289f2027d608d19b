// A lock between processes on a file that stays behind empty: whoever holds it owns what the file
// stands for, and a crash gives it back.
#pragma once

#include <stdexcept>
#include <string>

namespace sluice::daemon {

class LockedError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// True if a process holds the lock of this file. False too where there is no such file.
[[nodiscard]] bool is_locked(const std::string& path);

// Held until destruction.
class FileLock final {
 public:
  // Makes the file if it is missing. Throws LockedError, with `what` in its message, if another
  // process holds it; std::system_error if the file cannot be made.
  FileLock(const std::string& path, const std::string& what);
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  ~FileLock();

 private:
  int fd_;
};

}  // namespace sluice::daemon
