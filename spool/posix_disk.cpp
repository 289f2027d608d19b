#include "spool/posix_disk.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

namespace sluice::spool {

namespace {

std::error_code last_error() {
  return {errno, std::system_category()};
}

// `call` returns -1 and sets errno when it fails.
template <typename Call>
auto uninterrupted(Call&& call) {
  for (;;) {
    const auto result = call();
    if (result != -1 || errno != EINTR) return result;
  }
}

// The pieces that are left to write, handed to the kernel a bounded number at a time.
class Remaining {
 public:
  explicit Remaining(std::span<const Bytes> pieces) : pieces_(pieces) { skip_empty(); }

  [[nodiscard]] bool none() const { return pieces_.empty(); }

  // Fills `vectors` with what comes next; returns how many.
  [[nodiscard]] int next(std::span<iovec> vectors) const {
    const std::size_t count = std::min(vectors.size(), pieces_.size());
    for (std::size_t i = 0; i < count; ++i) {
      const Bytes piece = i == 0 ? pieces_[0].subspan(done_) : pieces_[i];
      vectors[i] = {const_cast<std::byte*>(piece.data()), piece.size()};
    }
    return static_cast<int>(count);
  }

  void written(std::size_t bytes) {
    while (bytes > 0) {
      const std::size_t step = std::min(bytes, pieces_[0].size() - done_);
      done_ += step;
      bytes -= step;
      skip_empty();
    }
  }

 private:
  void skip_empty() {
    while (!pieces_.empty() && done_ == pieces_[0].size()) {
      pieces_ = pieces_.subspan(1);
      done_ = 0;
    }
  }

  std::span<const Bytes> pieces_;
  std::size_t done_ = 0;  // of pieces_[0]
};

class PosixFile final : public DiskFile {
 public:
  explicit PosixFile(int fd) : fd_(fd) {}
  PosixFile(const PosixFile&) = delete;
  PosixFile& operator=(const PosixFile&) = delete;
  ~PosixFile() override { ::close(fd_); }

  [[nodiscard]] std::error_code write(std::uint64_t offset,
                                      std::span<const Bytes> pieces) override {
    std::array<iovec, IOV_MAX> vectors;
    for (Remaining remaining(pieces); !remaining.none();) {
      const int count = remaining.next(vectors);
      const ssize_t written = uninterrupted(
          [&] { return ::pwritev(fd_, vectors.data(), count, static_cast<off_t>(offset)); });
      if (written < 0) return last_error();
      // Nothing of something: POSIX leaves it open, and to try for ever would be worse.
      if (written == 0) return {EIO, std::system_category()};
      offset += static_cast<std::uint64_t>(written);
      remaining.written(static_cast<std::size_t>(written));
    }
    return {};
  }

  [[nodiscard]] std::error_code read(std::uint64_t offset, std::span<std::byte> into,
                                     std::size_t& got) override {
    got = 0;
    while (got < into.size()) {
      const ssize_t count = uninterrupted([&] {
        return ::pread(fd_, into.data() + got, into.size() - got, static_cast<off_t>(offset + got));
      });
      if (count < 0) return last_error();
      if (count == 0) break;
      got += static_cast<std::size_t>(count);
    }
    return {};
  }

  // Not tried again even after EINTR: whatever the kernel had to say about the pages it has said.
  [[nodiscard]] std::error_code sync() override {
    return ::fdatasync(fd_) == 0 ? std::error_code{} : last_error();
  }

  [[nodiscard]] std::error_code truncate(std::uint64_t bytes) override {
    return uninterrupted([&] { return ::ftruncate(fd_, static_cast<off_t>(bytes)); }) == 0
               ? std::error_code{}
               : last_error();
  }

  [[nodiscard]] std::error_code allocate(std::uint64_t bytes) override {
    int error = 0;
    do {
      error = ::posix_fallocate(fd_, 0, static_cast<off_t>(bytes));
    } while (error == EINTR);
    return {error, std::system_category()};
  }

  [[nodiscard]] std::error_code size(std::uint64_t& bytes) override {
    struct stat status;
    if (::fstat(fd_, &status) != 0) return last_error();
    bytes = static_cast<std::uint64_t>(status.st_size);
    return {};
  }

  // A hint: dirty pages stay, and a file system without a cache to drop (tmpfs) ignores it.
  void drop_cache() override { (void)::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED); }

 private:
  const int fd_;
};

int flags_of(OpenMode mode) {
  switch (mode) {
    case OpenMode::create:
      return O_RDWR | O_CREAT | O_EXCL;
    case OpenMode::read_only:
      return O_RDONLY;
    case OpenMode::read_write:
      return O_RDWR;
  }
  return O_RDONLY;
}

}  // namespace

PosixDisk::PosixDisk(const std::string& directory)
    : directory_(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (directory_ < 0) throw std::system_error(last_error(), "cannot open directory " + directory);
}

PosixDisk::~PosixDisk() {
  ::close(directory_);
}

std::variant<std::unique_ptr<DiskFile>, std::error_code> PosixDisk::open(const std::string& name,
                                                                         OpenMode mode) {
  const int flags = flags_of(mode) | O_CLOEXEC | O_NOFOLLOW;
  const int fd =
      uninterrupted([&] { return ::openat(directory_, name.c_str(), flags, S_IRUSR | S_IWUSR); });
  if (fd < 0) return last_error();
  return std::make_unique<PosixFile>(fd);
}

std::error_code PosixDisk::rename(const std::string& from, const std::string& to) {
  return ::renameat(directory_, from.c_str(), directory_, to.c_str()) == 0 ? std::error_code{}
                                                                           : last_error();
}

std::error_code PosixDisk::remove(const std::string& name) {
  return ::unlinkat(directory_, name.c_str(), 0) == 0 ? std::error_code{} : last_error();
}

std::error_code PosixDisk::sync_directory(const std::string& name) {
  const int fd = open_directory(name);
  if (fd < 0) return last_error();
  const std::error_code error = ::fsync(fd) == 0 ? std::error_code{} : last_error();
  ::close(fd);
  return error;
}

std::error_code PosixDisk::make_directory(const std::string& name) {
  if (::mkdirat(directory_, name.c_str(), S_IRWXU) == 0) return {};
  const std::error_code error = last_error();
  if (error != std::errc::file_exists) return error;
  const int fd = open_directory(name);
  if (fd < 0) return last_error();
  ::close(fd);
  return {};
}

std::error_code PosixDisk::list(const std::string& directory,
                                std::vector<DirectoryEntry>& entries) {
  entries.clear();
  const int fd = open_directory(directory);
  if (fd < 0) return last_error();
  const std::unique_ptr<DIR, int (*)(DIR*)> stream(::fdopendir(fd), &::closedir);
  if (!stream) {
    const std::error_code error = last_error();
    ::close(fd);
    return error;
  }
  for (;;) {
    errno = 0;
    const dirent* entry = ::readdir(stream.get());
    if (!entry) return errno == 0 ? std::error_code{} : last_error();
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    struct stat status;
    if (::fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno == ENOENT) continue;  // removed meanwhile
      return last_error();
    }
    entries.push_back({name, static_cast<std::uint64_t>(status.st_size), S_ISREG(status.st_mode)});
  }
}

int PosixDisk::open_directory(const std::string& name) const {
  const char* path = name.empty() ? "." : name.c_str();
  return uninterrupted(
      [&] { return ::openat(directory_, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW); });
}

}  // namespace sluice::spool
