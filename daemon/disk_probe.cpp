#include "daemon/disk_probe.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <string>
#include <system_error>
#include <vector>

namespace sluice::daemon {
namespace {

using std::chrono::microseconds;
using std::chrono::steady_clock;

constexpr int kSyncs = 50;
constexpr std::size_t kWriteBytes = 4096;

std::system_error failed(const std::string& what) {
  return {errno, std::generic_category(), what};
}

// Has a name only until it is open.
class TemporaryFile final {
 public:
  explicit TemporaryFile(const std::filesystem::path& directory) {
    std::string name = (directory / ".sluice-check-XXXXXX").string();
    fd_ = ::mkostemp(name.data(), O_CLOEXEC);
    if (fd_ < 0) throw failed("cannot make a file in " + directory.string());
    ::unlink(name.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() { ::close(fd_); }
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_ = -1;
};

microseconds time_one_sync(int fd, off_t offset) {
  static constexpr std::array<char, kWriteBytes> kBytes{};
  const auto began = steady_clock::now();
  if (::pwrite(fd, kBytes.data(), kBytes.size(), offset) != ssize_t{kWriteBytes})
    throw failed("cannot write 4 KiB");
  if (::fdatasync(fd) != 0) throw failed("cannot sync what was written");
  return std::chrono::duration_cast<microseconds>(steady_clock::now() - began);
}

}  // namespace

SyncTimes measure_syncs(const std::filesystem::path& directory) {
  const TemporaryFile file(directory);
  // As the spool does it: the space is there before.
  if (::posix_fallocate(file.fd(), 0, kSyncs * off_t{kWriteBytes}) != 0 ||
      ::fdatasync(file.fd()) != 0)
    throw failed("cannot take space in " + directory.string());
  std::vector<microseconds> times;
  for (int i = 0; i < kSyncs; ++i)
    times.push_back(time_one_sync(file.fd(), i * off_t{kWriteBytes}));
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2], times[times.size() * 99 / 100]};
}

std::uint64_t free_bytes(const std::filesystem::path& directory) {
  struct statvfs status {};
  if (::statvfs(directory.c_str(), &status) != 0)
    throw failed("cannot look at " + directory.string());
  return std::uint64_t{status.f_bavail} * status.f_frsize;
}

std::string_view storage_caveat(const std::filesystem::path& directory) {
  struct statfs status {};
  if (::statfs(directory.c_str(), &status) != 0) return {};
  switch (static_cast<std::uint32_t>(status.f_type)) {
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
      return "it is in memory: what is in it survives no reboot";
    case OVERLAYFS_SUPER_MAGIC:
      return "it is the layer of a container: what is in it goes with the container";
    case NFS_SUPER_MAGIC:
    case SMB_SUPER_MAGIC:
      return "it is a network file system: it can vanish, and locks on it may not hold";
    default:
      return {};
  }
}

}  // namespace sluice::daemon
