// Copies bytes in large pieces and looks at none but newlines.
#include "daemon/unacked_copy.hpp"

#include <fmt/core.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>
#include <system_error>
#include <thread>

#include "daemon/exit_code.hpp"
#include "daemon/unix_address.hpp"

namespace sluice::daemon {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::size_t kPieceBytes = 256 * 1024;
constexpr milliseconds kConnectPatience{3'000};
constexpr milliseconds kConnectPause{50};
constexpr milliseconds kProgressInterval{200};
// How long the daemon may take to read what is in the socket's buffer after the last write.
constexpr milliseconds kReadPatience{5'000};

class Descriptor final {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { ::close(fd_); }

 private:
  const int fd_;
};

struct Written {
  std::uint64_t lines = 0;
  std::uint64_t bytes = 0;
  Clock::time_point begun = Clock::now();

  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(Clock::now() - begun).count();
  }
};

std::uint64_t newlines_in(const char* data, std::size_t size) {
  std::uint64_t count = 0;
  const char* const end = data + size;
  while ((data = static_cast<const char*>(
              std::memchr(data, '\n', static_cast<std::size_t>(end - data))))) {
    ++count;
    ++data;
  }
  return count;
}

// A line on a terminal that is written over, now and then.
class ProgressLine final {
 public:
  explicit ProgressLine(bool wanted) : terminal_(wanted && ::isatty(STDERR_FILENO) == 1) {}

  void show(const Written& written) {
    if (!terminal_ || Clock::now() - shown_ < kProgressInterval) return;
    shown_ = Clock::now();
    fmt::print(stderr, "\r{} lines, {:.1f} MB ", written.lines,
               static_cast<double>(written.bytes) / 1e6);
  }
  void clear() {
    if (shown_ != Clock::time_point{}) fmt::print(stderr, "\r\x1b[K");
    shown_ = {};
  }

 private:
  const bool terminal_;
  Clock::time_point shown_{};
};

// A daemon that is just starting has its socket in a moment.
int connect_patiently(const std::string& path) {
  const Clock::time_point deadline = Clock::now() + kConnectPatience;
  for (;;) {
    const int fd = connect_unix(path);
    const bool may_come = errno == ENOENT || errno == ECONNREFUSED || errno == EAGAIN;
    if (fd >= 0 || !may_come || Clock::now() > deadline) return fd;
    std::this_thread::sleep_for(kConnectPause);
  }
}

// False, with errno, if the other side has gone.
bool write_all(int fd, const char* data, std::size_t size, Written& written) {
  while (size > 0) {
    // MSG_NOSIGNAL: a daemon that has gone is an error code, not a SIGPIPE.
    const ssize_t sent = ::send(fd, data, size, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return false;
    const auto count = static_cast<std::size_t>(sent);
    written.lines += newlines_in(data, count);
    written.bytes += count;
    data += count;
    size -= count;
  }
  return true;
}

// Everything up to the end of the input, with a newline behind the last line if it has none.
// False, with errno, if the socket failed; an input that fails is an exception.
bool copy(int input, int socket, Written& written, ProgressLine progress) {
  const auto piece = std::make_unique<char[]>(kPieceBytes);
  char last = '\n';
  for (;;) {
    const ssize_t got = ::read(input, piece.get(), kPieceBytes);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw std::system_error(errno, std::generic_category(), "reading the input");
    if (got == 0) break;
    const auto size = static_cast<std::size_t>(got);
    last = piece[size - 1];
    if (!write_all(socket, piece.get(), size, written)) {
      progress.clear();
      return false;
    }
    progress.show(written);
  }
  progress.clear();
  return last == '\n' || write_all(socket, "\n", 1, written);
}

// True once the daemon has read all of it, which it shows by closing its end.
bool daemon_has_read_all(int socket) {
  ::shutdown(socket, SHUT_WR);
  const Clock::time_point deadline = Clock::now() + kReadPatience;
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
    if (left <= milliseconds{0}) return false;
    pollfd descriptor{socket, POLLIN, 0};
    if (::poll(&descriptor, 1, static_cast<int>(left.count())) <= 0) continue;
    char ignored[256];
    const ssize_t got = ::recv(socket, ignored, sizeof ignored, MSG_DONTWAIT);
    if (got == 0) return true;
    if (got < 0 && errno != EAGAIN && errno != EINTR) return false;
  }
}

void report(const Written& written, std::string_view fate) {
  const double seconds = written.seconds();
  fmt::print(stderr, "sluice: wrote {} lines, {} bytes in {:.3f} s; {}\n", written.lines,
             written.bytes, seconds, fate);
}

}  // namespace

int copy_unacked(int input, const std::string& socket_path, bool progress) {
  const int socket = connect_patiently(socket_path);
  if (socket < 0) {
    fmt::print(stderr, "sluice: no daemon takes events at {}: {}\n", socket_path,
               std::strerror(errno));
    return kExitUnavailable;
  }
  const Descriptor closed_at_end(socket);
  Written written;
  if (!copy(input, socket, written, ProgressLine(progress))) {
    const std::string why = std::strerror(errno);
    report(written, "then the daemon went away (" + why + "): what it had not read is not stored");
    return kExitUnavailable;
  }
  report(written, daemon_has_read_all(socket)
                      ? "the daemon has read them. Read is not yet stored: see /metrics"
                      : "the daemon has not yet read them all, and written is not yet stored");
  return kExitOk;
}

}  // namespace sluice::daemon
