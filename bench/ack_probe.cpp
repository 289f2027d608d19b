// Producers that ask for acks, and how long each line waits for its own: at a set rate over several
// connections, or one that waits for each ack before it writes the next line.
#include <fmt/core.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::duration;

constexpr std::chrono::milliseconds kFar{2};

struct Options {
  std::string socket;
  int connections = 10;
  double rate = 10'000;  // lines per second over all connections
  double seconds = 10;
  bool wait = false;  // one line at a time
};

int connect_to(const std::string& path) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw std::runtime_error("the path is too long");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  if (fd < 0 || ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throw std::runtime_error("cannot connect to " + path + ": " + std::strerror(errno));
  }
  return fd;
}

void write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (wrote < 0) throw std::runtime_error(std::string("write: ") + std::strerror(errno));
    bytes.remove_prefix(static_cast<std::size_t>(wrote));
  }
}

// One connection: what it sent when, and which of it is acked.
class Producer {
 public:
  Producer(const std::string& path, int number) : fd_(connect_to(path)), number_(number) {
    write_all(fd_, "{\"sluice\":1,\"ack\":\"durable\"}\n");
    while (!hello_) read_answers();
  }

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] std::size_t sent() const { return sent_at_.size(); }
  [[nodiscard]] std::size_t acked() const { return acked_; }
  [[nodiscard]] const std::vector<double>& latencies_ms() const { return latencies_ms_; }

  void send_line() {
    const std::string line =
        fmt::format(R"({{"type":"probe","dedupe_key":"{}-{}","data":{{"n":{},"pad":"{}"}}}})"
                    "\n",
                    number_, sent(), sent(), std::string(300, 'x'));
    sent_at_.push_back(Clock::now());
    write_all(fd_, line);
  }

  // Blocks until something is there.
  void read_answers() {
    char buffer[4096];
    const ssize_t got = ::recv(fd_, buffer, sizeof buffer, 0);
    if (got <= 0) throw std::runtime_error("the daemon closed the connection");
    const auto now = Clock::now();
    text_.append(buffer, static_cast<std::size_t>(got));
    for (std::size_t end = 0; (end = text_.find('\n')) != std::string::npos;
         text_.erase(0, end + 1)) {
      take(std::string_view(text_).substr(0, end), now);
    }
  }

 private:
  void take(std::string_view line, Clock::time_point now) {
    constexpr std::string_view kAck = "{\"ack\":";
    if (line.starts_with("{\"sluice\":")) {
      hello_ = true;
    } else if (line.starts_with(kAck)) {
      const std::size_t upto = std::stoul(std::string(line.substr(kAck.size())));
      for (; acked_ < upto; ++acked_) {
        latencies_ms_.push_back(duration<double, std::milli>(now - sent_at_.at(acked_)).count());
      }
    } else {
      throw std::runtime_error("unexpected answer: " + std::string(line));
    }
  }

  const int fd_;
  const int number_;
  bool hello_ = false;
  std::string text_;
  std::vector<Clock::time_point> sent_at_;
  std::size_t acked_ = 0;
  std::vector<double> latencies_ms_;
};

void read_ready(std::vector<Producer>& producers, std::vector<pollfd>& polled, int timeout_ms) {
  if (::poll(polled.data(), polled.size(), timeout_ms) <= 0) return;
  for (std::size_t i = 0; i < polled.size(); ++i) {
    if ((polled[i].revents & (POLLIN | POLLHUP)) != 0) producers[i].read_answers();
  }
}

std::vector<double> at_a_rate(const Options& options) {
  std::vector<Producer> producers;
  std::vector<pollfd> polled;
  for (int i = 0; i < options.connections; ++i) {
    producers.emplace_back(options.socket, i);
    polled.push_back({producers.back().fd(), POLLIN, 0});
  }
  const auto began = Clock::now();
  const auto lines = static_cast<std::size_t>(options.rate * options.seconds);
  for (std::size_t n = 0; n < lines;) {
    const auto due = began + duration<double>(static_cast<double>(n) / options.rate);
    const auto left = due - Clock::now();
    if (left > duration<double>(0)) {
      // A quiet producer sleeps until its ack is there: it must not take a core from the daemon.
      const bool is_far = left > kFar;
      read_ready(producers, polled, is_far ? 1 : 0);
      if (!is_far && left > std::chrono::microseconds(50)) {
        std::this_thread::sleep_for(std::chrono::microseconds(20));
      }
      continue;
    }
    producers[n++ % producers.size()].send_line();
  }
  const auto open = [](const Producer& p) { return p.acked() < p.sent(); };
  while (std::any_of(producers.begin(), producers.end(), open)) {
    read_ready(producers, polled, 1'000);
  }
  std::vector<double> all;
  for (const Producer& producer : producers) {
    all.insert(all.end(), producer.latencies_ms().begin(), producer.latencies_ms().end());
  }
  return all;
}

std::vector<double> one_at_a_time(const Options& options) {
  Producer producer(options.socket, 0);
  const auto end = Clock::now() + duration<double>(options.seconds);
  while (Clock::now() < end) {
    producer.send_line();
    while (producer.acked() < producer.sent()) producer.read_answers();
  }
  return producer.latencies_ms();
}

int run(const Options& options) {
  auto latencies = options.wait ? one_at_a_time(options) : at_a_rate(options);
  std::sort(latencies.begin(), latencies.end());
  const auto at = [&](double share) {
    return latencies[static_cast<std::size_t>(share * static_cast<double>(latencies.size() - 1))];
  };
  fmt::print(R"({{"acks":{},"p50_ms":{:.3f},"p99_ms":{:.3f},"max_ms":{:.3f}}})"
             "\n",
             latencies.size(), at(0.5), at(0.99), latencies.back());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Measures the time from writing a line to its ack; prints one line of JSON.");
  Options options;
  app.add_option("--socket", options.socket)->required();
  app.add_option("--connections", options.connections);
  app.add_option("--rate", options.rate, "lines per second over all connections");
  app.add_option("--seconds", options.seconds);
  app.add_flag("--wait", options.wait, "one connection that waits for each ack");
  CLI11_PARSE(app, argc, argv);
  try {
    return run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "ack_probe: {}\n", error.what());
    return 1;
  }
}
