#include "daemon/spool_directory.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

namespace sluice::daemon {
namespace {

using Kind = SpoolDirectoryError::Kind;

Kind kind_of(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
    case EACCES:
    case EPERM:
    case EROFS:
    case ELOOP:
    case ENAMETOOLONG:
      return Kind::configuration;
    default:
      return Kind::system;
  }
}

SpoolDirectoryError failed(const std::string& what, int error) {
  const Kind kind = kind_of(error);
  return {kind, what + ": " + std::generic_category().message(error) + "; " +
                    (kind == Kind::configuration
                         ? "make the directory and give it to the daemon's user, or set spool.dir "
                           "to another place"
                         : "look at the disk")};
}

// So that the directory itself is there after a loss of power.
void sync_parent(const std::string& path) {
  const std::string parent = std::filesystem::absolute(path).lexically_normal().parent_path();
  const int fd = ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) throw failed("cannot open " + parent + ", which holds the spool", errno);
  const int error = ::fsync(fd) == 0 ? 0 : errno;
  ::close(fd);
  if (error != 0) throw failed("cannot sync " + parent + ", which holds the spool", error);
}

// The lock's file in the directory, which is there then.
std::string made(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) == 0) {
    sync_parent(path);
  } else if (errno != EEXIST) {
    throw failed("cannot make the spool's directory " + path, errno);
  }
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) {
    throw failed("cannot use " + path + " for the spool", ENOTDIR);
  }
  if (::access(path.c_str(), R_OK | W_OK | X_OK) != 0) {
    throw failed("cannot use the spool's directory " + path, errno);
  }
  return SpoolDirectory::lock_path(path);
}

}  // namespace

SpoolDirectory::SpoolDirectory(const std::string& path)
    : lock_(made(path), "the spool " + path), disk_(path) {}

std::string SpoolDirectory::lock_path(const std::string& directory) {
  return directory + "/LOCK";
}

}  // namespace sluice::daemon
