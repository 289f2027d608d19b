#include "daemon/file_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace sluice::daemon {

bool is_locked(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  const bool locked = flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  close(fd);
  return locked;
}

FileLock::FileLock(const std::string& path, const std::string& what)
    : fd_(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
  if (fd_ < 0) throw std::system_error(errno, std::generic_category(), "cannot open " + path);
  if (flock(fd_, LOCK_EX | LOCK_NB) == 0) return;
  const int error = errno;
  close(fd_);
  if (error == EWOULDBLOCK) {
    throw LockedError("another process is using " + what + " (it holds " + path +
                      "); stop it first, or choose another one");
  }
  throw std::system_error(error, std::generic_category(), "cannot lock " + path);
}

FileLock::~FileLock() {
  close(fd_);
}

}  // namespace sluice::daemon
