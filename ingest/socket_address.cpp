#include "ingest/socket_address.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>

namespace sluice::ingest {
namespace {

using Kind = SocketError::Kind;

std::string error_text(int error) {
  return std::strerror(error);
}  // NOLINT: one thread at start

SocketError failed(const std::string& what, const std::string& next, int error = errno) {
  return {Kind::system, what + ": " + error_text(error) + "; " + next};
}

sockaddr* generic(sockaddr_storage& address) {
  return reinterpret_cast<sockaddr*>(&address);
}

class Descriptor final {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }

 private:
  int fd_;
};

// The file that a bind() made, removed unless it gets its final name.
class TemporaryFile final {
 public:
  explicit TemporaryFile(std::string path) : path_(std::move(path)) {}
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (!path_.empty()) ::unlink(path_.c_str());
  }
  [[nodiscard]] const std::string& path() const { return path_; }
  void rename_to(const std::string& path) {
    if (::rename(path_.c_str(), path.c_str()) != 0) {
      throw failed("cannot rename " + path_ + " to " + path,
                   "give sluice the right to write there");
    }
    path_.clear();
  }

 private:
  std::string path_;
};

Descriptor open_socket(int family) {
  const int fd = ::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) throw failed("cannot make a socket", "look at the limit on open files");
  return Descriptor(fd);
}

void start_listening(int fd, const std::string& name) {
  if (::listen(fd, SOMAXCONN) == 0) return;
  if (errno == EADDRINUSE) throw SocketError(Kind::in_use, name + " is in use by another process");
  throw failed("cannot listen on " + name, "look at the system's limits");
}

sockaddr_un unix_address(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

// The name that the socket's file has until it is ready. Short, since it must fit where `path`
// does.
std::string temporary_path(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  return directory + ".sl" + std::to_string(::getpid());
}

void check_path(const std::string& path) {
  constexpr std::size_t kPathBytesMax = sizeof(sockaddr_un::sun_path) - 1;
  if (path.empty() || path.back() == '/') {
    throw SocketError(Kind::configuration, "the socket path '" + path +
                                               "' names no file; set a path such as "
                                               "/run/sluice/events.sock");
  }
  const std::size_t bytes = std::max(path.size(), temporary_path(path).size());
  if (bytes <= kPathBytesMax) return;
  throw SocketError(Kind::configuration,
                    "the socket path " + path + " is too long: it needs " + std::to_string(bytes) +
                        " bytes and the system takes " + std::to_string(kPathBytesMax) +
                        "; choose a shorter one");
}

// Nothing, or a socket's file that nobody listens on, may stand at the path.
void check_replaceable(const std::string& path) {
  struct stat found {};
  if (::lstat(path.c_str(), &found) != 0) {
    if (errno == ENOENT) return;
    throw failed("cannot look at " + path, "check the directory and its rights");
  }
  if (!S_ISSOCK(found.st_mode)) {
    throw SocketError(Kind::configuration, path +
                                               " exists and is no socket; remove it or choose "
                                               "another socket path");
  }
  const Descriptor probe = open_socket(AF_UNIX);
  const sockaddr_un address = unix_address(path);
  if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (errno == ECONNREFUSED || errno == ENOENT) return;
    // A full backlog or a socket of another type: somebody is there too.
    if (errno != EAGAIN && errno != EPROTOTYPE) {
      throw failed("cannot tell whether somebody listens on " + path, "remove it if it is stale");
    }
  }
  throw SocketError(Kind::in_use, "another process listens on " + path +
                                      "; stop it, or choose another socket path");
}

gid_t group_id(const std::string& name) {
  if (const auto id = find_group(name)) return *id;
  throw SocketError(Kind::configuration,
                    "there is no group '" + name + "'; create it or change the socket's group");
}

void set_rights(const std::string& file, const UnixSocketOptions& options) {
  if (!options.group.empty() &&
      ::lchown(file.c_str(), static_cast<uid_t>(-1), group_id(options.group)) != 0) {
    throw failed("cannot give " + options.path + " to the group " + options.group,
                 "let sluice's user be a member of it");
  }
  if (::chmod(file.c_str(), options.mode) != 0) {
    throw failed("cannot set the mode of " + options.path, "check the directory's file system");
  }
}

struct TcpAddress {
  sockaddr_storage storage{};
  socklen_t bytes = 0;
};

bool is_loopback(const sockaddr_storage& address) {
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    return (ntohl(v4.sin_addr.s_addr) >> 24) == 127;
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
}

std::optional<TcpAddress> parse_tcp(std::string_view text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string host(text.substr(0, colon));
  const std::string_view port_text = text.substr(colon + 1);
  std::uint16_t port = 0;
  const char* port_end = port_text.data() + port_text.size();
  const auto [end, error] = std::from_chars(port_text.data(), port_end, port);
  if (error != std::errc() || end != port_end) return std::nullopt;

  TcpAddress address;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
    auto& v6 = reinterpret_cast<sockaddr_in6&>(address.storage);
    v6.sin6_family = AF_INET6;
    v6.sin6_port = htons(port);
    address.bytes = sizeof v6;
    if (::inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr) != 1) return std::nullopt;
    return address;
  }
  if (host == "localhost") host = "127.0.0.1";
  auto& v4 = reinterpret_cast<sockaddr_in&>(address.storage);
  v4.sin_family = AF_INET;
  v4.sin_port = htons(port);
  address.bytes = sizeof v4;
  if (::inet_pton(AF_INET, host.c_str(), &v4.sin_addr) != 1) return std::nullopt;
  return address;
}

std::string tcp_name(const sockaddr_storage& address) {
  char host[INET6_ADDRSTRLEN] = {};
  if (address.ss_family == AF_INET) {
    const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
    ::inet_ntop(AF_INET, &v4.sin_addr, host, sizeof host);
    return std::string(host) + ":" + std::to_string(ntohs(v4.sin_port));
  }
  const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
  ::inet_ntop(AF_INET6, &v6.sin6_addr, host, sizeof host);
  return "[" + std::string(host) + "]:" + std::to_string(ntohs(v6.sin6_port));
}

TcpAddress bound_address(int fd) {
  TcpAddress address;
  address.bytes = sizeof address.storage;
  if (::getsockname(fd, generic(address.storage), &address.bytes) != 0) {
    throw failed("cannot read a socket's address", "report this as a bug");
  }
  return address;
}

// The path as the kernel has it; an abstract name's leading NUL is shown as @.
std::string unix_name(const TcpAddress& address) {
  const auto& local = reinterpret_cast<const sockaddr_un&>(address.storage);
  if (address.bytes <= offsetof(sockaddr_un, sun_path)) return "a Unix socket without a name";
  const std::size_t bytes = address.bytes - offsetof(sockaddr_un, sun_path);
  if (local.sun_path[0] == '\0') return "@" + std::string(local.sun_path + 1, bytes - 1);
  return {local.sun_path, ::strnlen(local.sun_path, bytes)};
}

int socket_option(int fd, int option) {
  int value = 0;
  socklen_t bytes = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, option, &value, &bytes) == 0 ? value : -1;
}

}  // namespace

std::optional<gid_t> find_group(const std::string& name) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): called while the process has one thread
  if (const group* entry = ::getgrnam(name.c_str())) return entry->gr_gid;
  gid_t id = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
  if (error == std::errc() && end == name.data() + name.size()) return id;
  return std::nullopt;
}

ListeningSocket::ListeningSocket(int fd, bool adopted, std::string name)
    : fd_(fd), adopted_(adopted), name_(std::move(name)) {}

ListeningSocket::ListeningSocket(ListeningSocket&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      adopted_(other.adopted_),
      name_(std::move(other.name_)),
      path_(std::exchange(other.path_, {})),
      device_(other.device_),
      inode_(other.inode_) {}

ListeningSocket::~ListeningSocket() {
  if (fd_ >= 0) ::close(fd_);
}

int ListeningSocket::release_fd() {
  return std::exchange(fd_, -1);
}

void ListeningSocket::own_file(const std::string& path) {
  struct stat file {};
  if (::lstat(path.c_str(), &file) != 0) return;
  path_ = path;
  device_ = file.st_dev;
  inode_ = file.st_ino;
}

void ListeningSocket::remove_file() noexcept {
  if (path_.empty()) return;
  struct stat file {};
  const bool ours =
      ::lstat(path_.c_str(), &file) == 0 && file.st_dev == device_ && file.st_ino == inode_;
  if (ours) ::unlink(path_.c_str());
  path_.clear();
}

ListeningSocket listen_unix(const UnixSocketOptions& options) {
  check_path(options.path);
  check_replaceable(options.path);

  Descriptor socket = open_socket(AF_UNIX);
  const std::string temporary_name = temporary_path(options.path);
  // A process with the same id may have died half way.
  ::unlink(temporary_name.c_str());
  const sockaddr_un address = unix_address(temporary_name);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throw failed("cannot make the socket " + options.path,
                 "create its directory and let sluice's user write there");
  }
  TemporaryFile file(temporary_name);
  set_rights(file.path(), options);
  start_listening(socket.get(), options.path);
  file.rename_to(options.path);

  ListeningSocket listening(socket.release(), false, options.path);
  listening.own_file(options.path);
  return listening;
}

ListeningSocket listen_tcp(std::string_view text) {
  const std::string name(text);
  std::optional<TcpAddress> address = parse_tcp(text);
  if (!address) {
    throw SocketError(Kind::configuration, "'" + name +
                                               "' is no TCP address; write 127.0.0.1:PORT or "
                                               "[::1]:PORT");
  }
  if (!is_loopback(address->storage)) {
    throw SocketError(Kind::configuration,
                      "the TCP address " + name +
                          " is not loopback, and sluice listens nowhere else: producers are not "
                          "authenticated; write 127.0.0.1:PORT or [::1]:PORT");
  }
  Descriptor socket = open_socket(address->storage.ss_family);
  const int on = 1;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(socket.get(), generic(address->storage), address->bytes) != 0) {
    if (errno == EADDRINUSE) {
      throw SocketError(Kind::in_use, name +
                                          " is in use by another process; stop it, or choose "
                                          "another port");
    }
    throw failed("cannot listen on " + name, "choose another address or port");
  }
  start_listening(socket.get(), name);
  const std::string bound_name = tcp_name(bound_address(socket.get()).storage);
  return {socket.release(), false, bound_name};
}

ListeningSocket adopt_socket(int fd) {
  Descriptor socket(fd);
  const std::string name = "descriptor " + std::to_string(fd);
  if (socket_option(fd, SO_ACCEPTCONN) != 1 || socket_option(fd, SO_TYPE) != SOCK_STREAM) {
    throw SocketError(Kind::configuration, name +
                                               " is no listening stream socket; use ListenStream= "
                                               "and Accept=no in the socket unit");
  }
  const TcpAddress address = bound_address(fd);
  const int family = address.storage.ss_family;
  const bool tcp = family == AF_INET || family == AF_INET6;
  if (family != AF_UNIX && !(tcp && is_loopback(address.storage))) {
    throw SocketError(Kind::configuration, name +
                                               " is neither a Unix socket nor on a TCP loopback "
                                               "address; change ListenStream= in the socket unit");
  }
  if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 ||
      ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK) != 0) {
    throw failed("cannot set up " + name, "look at the socket unit");
  }
  const std::string bound_name = tcp ? tcp_name(address.storage) : unix_name(address);
  return {socket.release(), true, bound_name};
}

}  // namespace sluice::ingest
