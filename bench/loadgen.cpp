// Sends a file of JSON lines to sluice's socket over many connections, as fast as it goes or at a
// set rate, and prints what it did as one line of JSON.
//
// Usage: sluice_loadgen --socket PATH --file FILE [--connections N] [--repeat N]
//                       [--rate EVENTS_PER_S] [--stamp]
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <CLI/CLI.hpp>

namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

// A file's bytes, mapped for as long as this lives.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail("cannot open " + path);
    struct stat status {};
    if (::fstat(fd, &status) != 0) fail("cannot read " + path);
    size_ = static_cast<std::size_t>(status.st_size);
    data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    ::close(fd);
    if (data_ == MAP_FAILED) fail("cannot map " + path);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() { ::munmap(data_, size_); }

  [[nodiscard]] std::string_view text() const { return {static_cast<const char*>(data_), size_}; }

 private:
  void* data_ = nullptr;
  std::size_t size_ = 0;
};

int connect_to(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw std::runtime_error("socket path too long");
  std::memcpy(address.sun_path, path.data(), path.size());
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  // The backlog may be full for a moment when a thousand connect at once: a blocking connect waits.
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    fail("cannot connect to " + path);
  }
  if (::fcntl(fd, F_SETFL, O_NONBLOCK) != 0) fail("fcntl");
  return fd;
}

// One connection and what it still has to send.
struct Connection {
  int fd = -1;
  std::string_view rest;  // of the file, when it goes as fast as it can
  std::string pending;    // stamped lines, at a set rate
};

constexpr std::size_t kWriteBytes = 64 * 1024;

// Sends up to kWriteBytes. Returns what the kernel took, 0 when it takes nothing now.
std::size_t send_some(int fd, std::string_view bytes) {
  const ssize_t sent =
      ::send(fd, bytes.data(), std::min(bytes.size(), kWriteBytes), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent >= 0) return static_cast<std::size_t>(sent);
  if (errno == EAGAIN || errno == EINTR) return 0;
  fail("send");
}

void wait_writable(const std::vector<Connection>& connections) {
  std::vector<pollfd> fds;
  for (const Connection& connection : connections) {
    if (!connection.rest.empty()) fds.push_back({connection.fd, POLLOUT, 0});
  }
  if (!fds.empty() && ::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) fail("poll");
}

// Every connection gets a run of whole lines of about the same size.
void deal_out(std::string_view text, std::vector<Connection>& connections) {
  for (std::size_t i = 0; i < connections.size(); ++i) {
    const std::size_t left = connections.size() - i;
    std::size_t end = text.size() / left;
    if (left > 1) {
      const std::size_t newline = text.find('\n', end);
      end = newline == std::string_view::npos ? text.size() : newline + 1;
    } else {
      end = text.size();
    }
    connections[i].rest = text.substr(0, end);
    text.remove_prefix(end);
  }
}

void flood(std::string_view text, std::vector<Connection>& connections) {
  deal_out(text, connections);
  bool some_left = true;
  while (some_left) {
    bool moved = false;
    some_left = false;
    for (Connection& connection : connections) {
      if (connection.rest.empty()) continue;
      const std::size_t sent = send_some(connection.fd, connection.rest);
      connection.rest.remove_prefix(sent);
      moved = moved || sent > 0;
      some_left = some_left || !connection.rest.empty();
    }
    if (some_left && !moved) wait_writable(connections);
  }
}

// Puts the time now in place of the line's time, which has the same width.
void append_stamped(std::string_view line, bool stamp, std::string& out) {
  const std::size_t begin = out.size();
  out.append(line);
  if (!stamp) return;
  static constexpr std::string_view kKey = R"("time":")";
  const std::size_t key = out.find(kKey, begin);
  if (key == std::string::npos) return;
  const auto now =
      std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now());
  const auto us = now.time_since_epoch().count() % 1'000'000;
  const std::string text = fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:06}Z",
                                       fmt::gmtime(std::chrono::system_clock::to_time_t(now)), us);
  out.replace(key + kKey.size(), text.size(), text);
}

void drain(Connection& connection) {
  std::size_t done = 0;
  while (done < connection.pending.size()) {
    const std::size_t sent =
        send_some(connection.fd, std::string_view(connection.pending).substr(done));
    if (sent == 0) break;
    done += sent;
  }
  connection.pending.erase(0, done);
}

// Lines go to the connections in turn, those that are due once a millisecond.
void pace(std::string_view text, std::vector<Connection>& connections, double rate, bool stamp) {
  const Clock::time_point start = Clock::now();
  std::uint64_t sent = 0;
  for (int tick = 1; !text.empty(); ++tick) {
    std::this_thread::sleep_until(start + std::chrono::milliseconds(tick));
    const std::chrono::duration<double> elapsed = Clock::now() - start;
    const auto due = static_cast<std::uint64_t>(std::floor(elapsed.count() * rate));
    for (; sent < due && !text.empty(); ++sent) {
      const std::size_t line = std::min(text.find('\n'), text.size() - 1) + 1;
      append_stamped(text.substr(0, line), stamp, connections[sent % connections.size()].pending);
      text.remove_prefix(line);
    }
    for (Connection& connection : connections) drain(connection);
  }
  for (Connection& connection : connections) {
    while (!connection.pending.empty()) {
      drain(connection);
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
}

struct Options {
  std::string socket;
  std::string file;
  std::size_t connections = 1;
  double rate = 0;  // events per second; 0: as fast as it goes
  bool stamp = false;
  int repeat = 1;
};

void run(const Options& options) {
  const MappedFile file(options.file);
  const auto lines = std::count(file.text().begin(), file.text().end(), '\n');
  std::vector<Connection> connections(options.connections);
  for (Connection& connection : connections) connection.fd = connect_to(options.socket);

  const Clock::time_point start = Clock::now();
  for (int i = 0; i < options.repeat; ++i) {
    if (options.rate > 0) {
      pace(file.text(), connections, options.rate, options.stamp);
    } else {
      flood(file.text(), connections);
    }
  }
  const std::chrono::duration<double> seconds = Clock::now() - start;
  for (const Connection& connection : connections) ::close(connection.fd);
  fmt::print(R"({{"events":{},"bytes":{},"seconds":{:.6f}}})"
             "\n",
             lines * options.repeat, file.text().size() * static_cast<std::size_t>(options.repeat),
             seconds.count());
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Sends JSON lines to sluice's socket over many connections");
  app.add_option("--socket", options.socket, "The daemon's Unix socket")->required();
  app.add_option("--file", options.file, "JSON lines, the last one with its newline")->required();
  app.add_option("--connections", options.connections)->check(CLI::Range(1, 60'000));
  app.add_option("--repeat", options.repeat, "Send the file so many times")
      ->check(CLI::Range(1, 1'000'000));
  app.add_option("--rate", options.rate, "Events per second over all; 0: as fast as it goes");
  app.add_flag("--stamp", options.stamp, "With --rate: write the time of sending into each line");
  CLI11_PARSE(app, argc, argv);
  try {
    run(options);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "sluice_loadgen: {}\n", error.what());
    return 69;
  }
}
