// Makes the sockets that producers connect to: a Unix path, a TCP loopback address, or one that
// systemd opened.
#pragma once

#include <sys/types.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace sluice::ingest {

// A socket that could not be made. The message says what failed, on what, and what to do.
class SocketError : public std::runtime_error {
 public:
  enum class Kind {
    configuration,  // the address, mode or group cannot work: a person must change it
    in_use,         // another process listens there
    system,         // the system refused
  };

  SocketError(Kind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  [[nodiscard]] Kind kind() const { return kind_; }

 private:
  Kind kind_;
};

// A listening stream socket, not blocking, closed on exec. Owns the descriptor; the socket's file
// goes only by remove_file().
class ListeningSocket final {
 public:
  ListeningSocket(int fd, bool adopted, std::string name);
  ListeningSocket(ListeningSocket&& other) noexcept;
  ListeningSocket& operator=(ListeningSocket&&) = delete;
  ~ListeningSocket();

  [[nodiscard]] int fd() const { return fd_; }
  // Gives the descriptor away; the file stays known to remove_file().
  [[nodiscard]] int release_fd();
  // For people: "/run/sluice/events.sock", "127.0.0.1:9400".
  [[nodiscard]] const std::string& name() const { return name_; }
  // Opened by another process, which may listen on when this one has gone.
  [[nodiscard]] bool adopted() const { return adopted_; }

  // The socket's file is `path`, as it is now.
  void own_file(const std::string& path);
  // Removes the socket's file if it is still the one that was made here.
  void remove_file() noexcept;

 private:
  int fd_;
  bool adopted_;
  std::string name_;
  std::string path_;  // empty: no file to remove
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

struct UnixSocketOptions {
  std::string path;
  mode_t mode = 0660;
  std::string group;  // empty: as the process has it
};

// The id of a group by its name or number. None: there is no such group.
[[nodiscard]] std::optional<gid_t> find_group(const std::string& name);

// Listens on a Unix path; what a process that has gone left there is replaced. The file appears
// under its name only when it has its mode and group and takes connections. REQUIRES: the caller
// holds the lock that keeps a second daemon from doing the same. Throws SocketError, `in_use` if
// somebody answers on the path.
[[nodiscard]] ListeningSocket listen_unix(const UnixSocketOptions& options);

// Listens on "127.0.0.1:PORT", "[::1]:PORT" or "localhost:PORT"; name() tells the port that the
// kernel chose for 0. Other addresses are refused: nothing on the wire is encrypted or
// authenticated. Throws SocketError.
[[nodiscard]] ListeningSocket listen_tcp(std::string_view address);

// Takes over a socket that listens already. Throws SocketError if it is of another kind; the
// descriptor is closed then.
[[nodiscard]] ListeningSocket adopt_socket(int fd);

}  // namespace sluice::ingest
