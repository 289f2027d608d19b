// A listener with everything around it, over real sockets, its loop driven by hand.
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstring>
#include <deque>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ingest/listener.hpp"

namespace sluice::tests {

struct ListenerReports final : ingest::ListenerReporter {
  void line_refused(const ingest::RefusedLine& line) override { refused.push_back(line); }
  void hello_refused(std::uint32_t, std::string_view reason) override {
    wrong_hellos.emplace_back(reason);
  }
  void uid_refused(std::uint32_t uid) override { uids.push_back(uid); }
  void uid_has_too_many(std::uint32_t, std::size_t) override { ++too_many; }
  void connections_full(std::size_t, bool) override { ++full; }
  void accept_failed(std::string_view, int error) override { accept_errors.push_back(error); }

  std::vector<ingest::RefusedLine> refused;
  std::vector<std::string> wrong_hellos;
  std::vector<std::uint32_t> uids;
  int full = 0;
  int too_many = 0;
  std::vector<int> accept_errors;
};

inline std::uint64_t sum(const ingest::CountOfUids& counts) {
  std::uint64_t all = 0;
  for (const ingest::Count& count : counts) all += count;
  return all;
}

class Producer final {
 public:
  explicit Producer(int fd) : fd_(fd) {}
  Producer(Producer&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  ~Producer() { leave(); }

  // Bytes that the socket took.
  std::size_t write(std::string_view bytes) {
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    error_ = sent < 0 ? errno : 0;
    return sent < 0 ? 0 : static_cast<std::size_t>(sent);
  }
  // errno of the last write().
  [[nodiscard]] int error() const { return error_; }
  // All lines that have come; a line cut off, and "closed" for the end, count as such.
  std::vector<std::string> answers() {
    std::vector<std::string> lines;
    std::string text;
    char bytes[4096];
    ssize_t got = 0;
    while ((got = ::recv(fd_, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
      text.append(bytes, static_cast<std::size_t>(got));
    }
    for (std::size_t end = 0; (end = text.find('\n')) != std::string::npos;) {
      lines.push_back(text.substr(0, end));
      text.erase(0, end + 1);
    }
    if (!text.empty()) lines.push_back(text);
    if (got == 0) lines.emplace_back("closed");
    if (got < 0 && errno != EAGAIN) lines.emplace_back("reset");
    return lines;
  }
  void shut_writing() { REQUIRE(::shutdown(fd_, SHUT_WR) == 0); }
  [[nodiscard]] bool closed_by_peer() const {
    char byte = 0;
    const ssize_t got = ::recv(fd_, &byte, 1, MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno == ECONNRESET);
  }
  void leave() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  [[nodiscard]] int fd() const { return fd_; }

 private:
  int fd_;
  int error_ = 0;
};

// A listener on a Unix socket and a TCP port with everything around it.
class ListenerBench final {
 public:
  explicit ListenerBench(ingest::ListenerOptions options = {}, std::size_t budget_bytes = 1 << 20)
      : budget_(budget_bytes), directory_(make_directory()) {
    options.now_us = [this] { return now_us; };
    std::vector<ingest::ListeningSocket> sockets;
    sockets.push_back(ingest::listen_unix({path(), 0660, ""}));
    sockets.push_back(ingest::listen_tcp("127.0.0.1:0"));
    tcp_name_ = sockets[1].name();
    listener_.emplace(io_, std::move(sockets), options,
                      ingest::ListenerStages{budget_, parser_, queue_, counters, reporter,
                                             producers, [this] { return spool_full; }});
    listener_->start();
  }
  ~ListenerBench() {
    listener_.reset();
    std::filesystem::remove_all(directory_);
  }

  [[nodiscard]] std::string path() const { return directory_ + "/events.sock"; }
  [[nodiscard]] ingest::Listener& listener() { return *listener_; }
  [[nodiscard]] spool::ByteBudget& budget() { return budget_; }

  Producer connect() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string name = path();
    std::memcpy(address.sun_path, name.data(), name.size());
    return connect_to(AF_UNIX, reinterpret_cast<sockaddr*>(&address), sizeof address);
  }
  Producer connect_tcp() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port =
        htons(static_cast<std::uint16_t>(std::stoi(tcp_name_.substr(tcp_name_.find(':') + 1))));
    return connect_to(AF_INET, reinterpret_cast<sockaddr*>(&address), sizeof address);
  }

  // Runs the loop until it has nothing to do at once.
  void settle() {
    io_.restart();
    while (io_.poll() != 0) {
    }
  }
  // Runs what the loop has to do piece by piece until `done()`. False: it has nothing left.
  template <typename Done>
  [[nodiscard]] bool step_until(Done&& done) {
    while (!done()) {
      io_.restart();
      if (io_.poll_one() == 0) return false;
    }
    return true;
  }
  // Runs the loop until `done()`, for the bounded time that a timer or TCP needs.
  template <typename Done>
  [[nodiscard]] bool runs_until(Done&& done) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
    while (!done()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      io_.restart();
      io_.run_one_for(std::chrono::milliseconds(5));
    }
    return true;
  }

  struct Taken {
    std::vector<std::string> lines;
    std::vector<std::uint64_t> numbers;  // of the lines, by the connection's count
    std::vector<std::string> types;
    ingest::Origin origin;
  };
  // Takes the next chunk off the queue.
  Taken take_chunk() {
    Taken taken;
    spool::Chunk chunk;
    REQUIRE(queue_.pop(chunk, taken.origin));
    for (std::size_t at = 0; at < chunk.bytes().size();) {
      const spool::EventView event(chunk.bytes().data() + at);
      taken.lines.emplace_back(event.line());
      for (const spool::FieldSpan& span : event.fields()) {
        if (span.field != static_cast<std::uint32_t>(spool::Field::type)) continue;
        const std::string_view quoted = event.text(span);
        taken.types.emplace_back(quoted.substr(1, quoted.size() - 2));
      }
      taken.numbers.push_back(taken.origin.first_line + spool::line_delta(event.header()));
      at += event.header().record_bytes;
    }
    return taken;
  }

  // Takes everything off the queue; the events' lines are appended to `lines`.
  void take(std::vector<std::string>& lines) {
    spool::Chunk chunk;
    ingest::Origin origin;
    while (queue_.pop(chunk, origin)) {
      for (std::size_t at = 0; at < chunk.bytes().size();) {
        const spool::EventView event(chunk.bytes().data() + at);
        lines.emplace_back(event.line());
        last_header = event.header();
        at += event.header().record_bytes;
      }
      chunk = spool::Chunk();
    }
  }
  std::vector<std::string> lines() {
    std::vector<std::string> all;
    take(all);
    return all;
  }

  std::int64_t now_us = 1'700'000'000'000'000;
  ingest::IngestCounters counters;
  ListenerReports reporter;
  spool::ProducerTable producers{100};
  spool::RecordHeader last_header{};
  bool spool_full = false;

  [[nodiscard]] ingest::EventParser& parser() { return parser_; }

 private:
  static std::string make_directory() {
    std::string name = (std::filesystem::temp_directory_path() / "sluice-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    return name;
  }
  static Producer connect_to(int family, const sockaddr* address, socklen_t bytes) {
    const int fd = ::socket(family, SOCK_STREAM, 0);
    REQUIRE(::connect(fd, address, bytes) == 0);
    return Producer(fd);
  }

  boost::asio::io_context io_;
  spool::ByteBudget budget_;
  ingest::EventQueue queue_{[] {}};
  ingest::EventParser parser_{{}, counters};
  const std::string directory_;
  std::string tcp_name_;
  std::optional<ingest::Listener> listener_;
};

inline std::string event(int n) {
  return "{\"n\":" + std::to_string(n) + "}";
}

}  // namespace sluice::tests
