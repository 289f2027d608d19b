// Listening sockets: what may stand at the path, who may use it, which addresses are taken.
#include "ingest/socket_address.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>

using sluice::ingest::adopt_socket;
using sluice::ingest::listen_tcp;
using sluice::ingest::listen_unix;
using sluice::ingest::ListeningSocket;
using sluice::ingest::SocketError;
using Kind = SocketError::Kind;

namespace {

class TemporaryDirectory final {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "sluice-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  [[nodiscard]] std::string file(const std::string& name) const { return path_ / name; }
  [[nodiscard]] std::size_t files() const {
    const std::filesystem::directory_iterator all(path_);
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
  }

 private:
  std::filesystem::path path_;
};

bool connects(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const bool done = ::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  ::close(fd);
  return done;
}

// The error that the call throws; fails the test if it throws none.
template <typename Call>
SocketError error_of(Call&& call) {
  try {
    static_cast<void>(call());
  } catch (const SocketError& error) {
    return error;
  }
  FAIL("no error was thrown");
  throw;
}

}  // namespace

TEST_CASE(
    "socket address: a Unix socket takes connections with its mode and leaves no other file") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("events.sock");
  const ListeningSocket socket = listen_unix({path, 0620, std::to_string(::getegid())});
  CHECK(connects(path));
  CHECK(socket.name() == path);
  CHECK_FALSE(socket.adopted());
  struct stat file {};
  REQUIRE(::stat(path.c_str(), &file) == 0);
  CHECK((file.st_mode & 0777) == 0620);
  CHECK(file.st_gid == ::getegid());
  CHECK(directory.files() == 1);
}

TEST_CASE("socket address: a stale socket is replaced, a live one is not") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("events.sock");
  { const ListeningSocket dead = listen_unix({path, 0660, ""}); }
  REQUIRE(std::filesystem::exists(path));
  CHECK_FALSE(connects(path));

  const ListeningSocket socket = listen_unix({path, 0660, ""});
  CHECK(connects(path));
  const SocketError error = error_of([&] { return listen_unix({path, 0660, ""}); });
  CHECK(error.kind() == Kind::in_use);
  CHECK_THAT(error.what(), Catch::Contains(path));
  CHECK(connects(path));
  CHECK(directory.files() == 1);
}

TEST_CASE("socket address: another kind of file at the path is left alone") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("events.sock");
  std::ofstream(path) << "precious";
  const SocketError error = error_of([&] { return listen_unix({path, 0660, ""}); });
  CHECK(error.kind() == Kind::configuration);
  CHECK_THAT(error.what(), Catch::Contains("is no socket"));
  CHECK(std::filesystem::file_size(path) == 8);
}

TEST_CASE("socket address: a path that is too long is said to be so") {
  const TemporaryDirectory directory;
  const std::string path = directory.file(std::string(100, 'x'));
  const SocketError error = error_of([&] { return listen_unix({path, 0660, ""}); });
  CHECK(error.kind() == Kind::configuration);
  CHECK_THAT(error.what(), Catch::Contains("too long") && Catch::Contains("107"));
}

TEST_CASE(
    "socket address: a path without a file name, a missing directory and an unknown group fail") {
  const TemporaryDirectory directory;
  CHECK(error_of([&] {
          return listen_unix({directory.file(""), 0660, ""});
        }).kind() == Kind::configuration);
  CHECK(error_of([&] {
          return listen_unix({directory.file("no/x.sock"), 0660, ""});
        }).kind() == Kind::system);
  const SocketError error = error_of([&] {
    return listen_unix({directory.file("x.sock"), 0660, "no-such-group"});
  });
  CHECK(error.kind() == Kind::configuration);
  CHECK_THAT(error.what(), Catch::Contains("no-such-group"));
  CHECK(directory.files() == 0);
}

TEST_CASE("socket address: a daemon removes its own socket's file and no other's") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("events.sock");
  ListeningSocket old_socket = listen_unix({path, 0660, ""});
  REQUIRE(::unlink(path.c_str()) == 0);
  ListeningSocket new_socket = listen_unix({path, 0660, ""});
  old_socket.remove_file();
  CHECK(connects(path));
  new_socket.remove_file();
  CHECK(directory.files() == 0);
}

TEST_CASE("socket address: TCP listens on loopback, with the kernel's port for 0") {
  for (const char* address : {"127.0.0.1:0", "localhost:0"}) {
    const ListeningSocket socket = listen_tcp(address);
    CHECK_THAT(socket.name(), Catch::StartsWith("127.0.0.1:") && !Catch::EndsWith(":0"));
    const SocketError error = error_of([&] { return listen_tcp(socket.name()); });
    CHECK(error.kind() == Kind::in_use);
  }
}

TEST_CASE("socket address: other TCP addresses are refused") {
  for (const char* address : {"0.0.0.0:1", "192.0.2.1:9000", "[::]:1", "[2001:db8::1]:1"}) {
    const SocketError error = error_of([&] { return listen_tcp(address); });
    CHECK(error.kind() == Kind::configuration);
    CHECK_THAT(error.what(), Catch::Contains("loopback"));
  }
  for (const char* address : {"", "9000", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "::1:9",
                              "127.0.0.1:9x", "example.org:9000"}) {
    CHECK(error_of([&] { return listen_tcp(address); }).kind() == Kind::configuration);
  }
}

TEST_CASE("socket address: a listening socket is adopted, made non-blocking and keeps its file") {
  const TemporaryDirectory directory;
  const std::string path = directory.file("events.sock");
  ListeningSocket made = listen_unix({path, 0660, ""});
  const int fd = made.release_fd();
  REQUIRE(::fcntl(fd, F_SETFL, 0) == 0);

  ListeningSocket socket = adopt_socket(fd);
  CHECK(socket.adopted());
  CHECK_THAT(socket.name(), Catch::StartsWith(directory.file("")));
  CHECK((::fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
  CHECK((::fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
  socket.remove_file();
  CHECK(connects(path));
}

TEST_CASE("socket address: what does not listen, or not on loopback, is not adopted") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  CHECK(error_of([&] { return adopt_socket(ends[0]); }).kind() == Kind::configuration);
  ::close(ends[1]);
  CHECK(error_of([] { return adopt_socket(::socket(AF_UNIX, SOCK_STREAM, 0)); }).kind() ==
        Kind::configuration);
  const int everywhere = ::socket(AF_INET, SOCK_STREAM, 0);
  REQUIRE(::listen(everywhere, 1) == 0);
  CHECK_THAT(error_of([&] { return adopt_socket(everywhere); }).what(),
             Catch::Contains("loopback"));
}
