// The number of a line is its number in the file.
#include "daemon/command_send.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "daemon/ack_client.hpp"
#include "daemon/exit_code.hpp"
#include "daemon/producer_name.hpp"
#include "daemon/send_report.hpp"
#include "daemon/unacked_copy.hpp"

namespace sluice::daemon {

namespace {

using std::chrono::milliseconds;

// Two of the largest lines that can be configured fit.
constexpr std::size_t kWindowBytesMax = 32u << 20;

class Descriptor final {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ > STDERR_FILENO) ::close(fd_);
  }

  [[nodiscard]] int get() const { return fd_; }

 private:
  const int fd_;
};

bool is_stdin(const SendOptions& options) {
  return options.file.empty() || options.file == "-";
}

std::string producer_of(const SendOptions& options, int fd) {
  if (!options.producer.empty()) {
    return options.again ? random_name(options.producer) : options.producer;
  }
  struct stat status {};
  // What comes out of a pipe is different each time.
  const bool is_file = !is_stdin(options) && ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  if (!is_file) return random_name("send:stdin");
  const std::string name = name_of_file(options.file, fd);
  return options.again ? random_name(name) : name;
}

// Everything that one run of the command does.
class Sending final : AckClientReporter {
 public:
  Sending(const SendOptions& options, int input)
      : options_(options),
        producer_(producer_of(options, input)),
        reader_(input),
        window_(kWindowBytesMax),
        report_(is_stdin(options) ? "stdin" : options.file, options.socket, options.progress) {}

  [[nodiscard]] int run();

 private:
  void found(std::uint64_t have) override;
  void greeted(const AnswerLine& hello) override;
  void refused(std::uint64_t line, const std::string& code) override;
  void refused_unnamed(std::uint64_t lines) override;
  void away(std::string_view reason, milliseconds left) override { report_.away(reason, left); }
  void no_room(milliseconds left) override { report_.no_room(left); }
  void tick() override { report_.tick(counts()); }

  [[nodiscard]] SendCounts counts() const;
  [[nodiscard]] SendCounts counts_at_end(const AckClient& client) const;
  [[nodiscard]] int finish(AckClientEnd end, const AckClient& client);

  const SendOptions& options_;
  const std::string producer_;
  LineReader reader_;
  LineWindow window_;
  SendReport report_;
  std::uint64_t found_ = 0;
  std::uint64_t refused_ = 0;
  std::string stage_;
};

int Sending::run() {
  AckClient client({options_.socket, producer_, options_.retry_for}, window_, reader_, *this);
  const AckClientEnd end = client.run();
  return finish(end, client);
}

void Sending::found(std::uint64_t have) {
  found_ = have;
  report_.note(fmt::format(
      "skipping {} lines that were sent before under this name; --again sends them anew", have));
}

void Sending::greeted(const AnswerLine& hello) {
  stage_ = hello.stage;
  report_.answered();
}

void Sending::refused(std::uint64_t line, const std::string& code) {
  ++refused_;
  report_.refused(line, code);
}

void Sending::refused_unnamed(std::uint64_t lines) {
  refused_ += lines;
  report_.note(fmt::format("{} more lines were refused", lines));
}

SendCounts Sending::counts() const {
  SendCounts counts;
  counts.found = found_;
  counts.refused = refused_;
  counts.unacked = window_.last_line() - window_.acked();
  counts.acked = window_.acked() - found_;
  return counts;
}

// Of lines that are not acked, it is known what became of those that were refused or are empty.
SendCounts Sending::counts_at_end(const AckClient& client) const {
  SendCounts counts = this->counts();
  const std::uint64_t blank_unacked = window_.blank_unacked();
  counts.blank = reader_.blank_lines();
  // Where an ack got lost, refused lines that were not named may have been counted twice.
  const std::uint64_t done_with = counts.acked + client.refused_unacked() + blank_unacked;
  counts.stored = done_with - std::min(done_with, counts.refused + counts.blank);
  counts.unacked -= std::min(counts.unacked, client.refused_unacked() + blank_unacked);
  return counts;
}

int Sending::finish(AckClientEnd end, const AckClient& client) {
  if (reader_.ended() && reader_.left_to_skip() > 0) {
    report_.note(fmt::format(
        "the daemon has {} lines of this name and the input has only {}: it is another input. "
        "Nothing was sent; --again sends it all, --producer names it",
        found_, found_ - reader_.left_to_skip()));
    return kExitRefused;
  }
  report_.summary(counts_at_end(client), stage_);
  if (end == AckClientEnd::unavailable) {
    report_.note(
        fmt::format("gave up: no daemon answers at {}: {}", options_.socket, client.reason()));
  } else if (end == AckClientEnd::no_room) {
    report_.note(fmt::format("gave up: the daemon at {} has no room", options_.socket));
  } else if (end == AckClientEnd::stalled) {
    report_.note(fmt::format(
        "gave up: the daemon at {} answered and then acked no line for {:.3g} s: it has no room, "
        "or hangs. Its log and /readyz say which",
        options_.socket, std::chrono::duration<double>(options_.retry_for).count()));
  } else if (end == AckClientEnd::rejected) {
    report_.note(
        fmt::format("the daemon at {} refused to talk: {}", options_.socket, client.reason()));
  }
  if (end != AckClientEnd::done) return kExitUnavailable;
  return refused_ > 0 ? kExitRefused : kExitOk;
}

}  // namespace

int run_send(const SendOptions& options) {
  if (options.producer.size() > kProducerNameBytesMax) {
    fmt::print(stderr, "sluice: --producer: a name has at most {} bytes\n", kProducerNameBytesMax);
    return kExitUsage;
  }
  const Descriptor input(is_stdin(options) ? STDIN_FILENO
                                           : ::open(options.file.c_str(), O_RDONLY | O_CLOEXEC));
  if (input.get() < 0) {
    fmt::print(stderr, "sluice: {}: {}\n", options.file, std::strerror(errno));
    return kExitUsage;
  }
  struct stat status {};
  if (::fstat(input.get(), &status) == 0 && S_ISDIR(status.st_mode)) {
    fmt::print(stderr, "sluice: {}: {}\n", options.file, std::strerror(EISDIR));
    return kExitUsage;
  }
  if (!options.acks) return copy_unacked(input.get(), options.socket, options.progress);
  return Sending(options, input.get()).run();
}

}  // namespace sluice::daemon
