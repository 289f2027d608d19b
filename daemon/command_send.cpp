// The number of a line is its number in the file. What was refused because the daemon had no room
// is sent again under a name of its own, so that this stays true.
#include "daemon/command_send.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "daemon/ack_client.hpp"
#include "daemon/exit_code.hpp"
#include "daemon/producer_name.hpp"
#include "daemon/send_report.hpp"
#include "daemon/unacked_copy.hpp"

namespace sluice::daemon {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// Two of the largest lines that can be configured fit.
constexpr std::size_t kWindowBytesMax = 32u << 20;
// When so much waits to be sent again, that goes first.
constexpr std::size_t kTurnedAwayBytesMax = 8u << 20;
constexpr milliseconds kTurnedAwayPause{500};

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
    return options.again ? random_name(options.producer.substr(0, 100)) : options.producer;
  }
  struct stat status {};
  // What comes out of a pipe is different each time.
  const bool is_file = !is_stdin(options) && ::fstat(fd, &status) == 0 && S_ISREG(status.st_mode);
  if (!is_file) return random_name("send:stdin");
  const std::string name = name_of_file(options.file, fd);
  return options.again ? random_name(name.substr(0, 100)) : name;
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
  // A line that the daemon had no room for.
  struct TurnedAway {
    std::uint64_t line;  // of the input
    std::string text;
  };

  void found(std::uint64_t have) override;
  void greeted(const AnswerLine& hello) override;
  void refused(std::uint64_t line, const std::string& code, bool retry) override;
  void refused_unnamed(std::uint64_t lines) override;
  void away(std::string_view reason, milliseconds left) override { report_.away(reason, left); }
  void tick() override { report_.tick(counts()); }

  [[nodiscard]] AckClientEnd converse(const std::string& producer, LineWindow& window,
                                      LineReader* input);
  [[nodiscard]] AckClientEnd send_turned_away();
  [[nodiscard]] AckClientEnd send_once_more(std::vector<TurnedAway> lines);
  [[nodiscard]] SendCounts counts() const;
  [[nodiscard]] int finish(AckClientEnd end);

  const SendOptions& options_;
  const std::string producer_;
  LineReader reader_;
  LineWindow window_;
  SendReport report_;
  AckClient* client_ = nullptr;                          // the one that runs
  LineWindow* sending_ = nullptr;                        // what it sends
  const std::vector<TurnedAway>* second_try_ = nullptr;  // whose lines it sends, if not the input's

  std::uint64_t found_ = 0;
  std::uint64_t refused_ = 0;
  std::vector<TurnedAway> turned_away_;
  std::size_t turned_away_bytes_ = 0;
  std::string stage_;
  std::string reason_;
};

int Sending::run() {
  AckClientEnd end = AckClientEnd::done;
  while (end == AckClientEnd::done && !(reader_.ended() && window_.all_acked())) {
    end = converse(producer_, window_, &reader_);
    if (end == AckClientEnd::done) end = send_turned_away();
  }
  return finish(end);
}

AckClientEnd Sending::converse(const std::string& producer, LineWindow& window, LineReader* input) {
  AckClient client({options_.socket, producer, options_.retry_for}, window, input, *this);
  client_ = &client;
  sending_ = &window;
  const AckClientEnd end = client.run();
  client_ = nullptr;
  reason_ = client.reason();
  return end;
}

void Sending::found(std::uint64_t have) {
  found_ = have;
  report_.note(
      fmt::format("lines 1 to {} were sent before under this name; going on behind them", have));
}

void Sending::greeted(const AnswerLine& hello) {
  stage_ = hello.stage;
  report_.answered();
}

void Sending::refused(std::uint64_t line, const std::string& code, bool retry) {
  const std::uint64_t line_of_input = second_try_ ? (*second_try_)[line - 1].line : line;
  auto text = retry ? sending_->take(line) : std::nullopt;
  if (!text) {
    ++refused_;
    report_.refused(line_of_input, code);
    return;
  }
  turned_away_bytes_ += text->size();
  turned_away_.push_back({line_of_input, std::move(*text)});
  if (turned_away_bytes_ > kTurnedAwayBytesMax) client_->stop_reading();
}

void Sending::refused_unnamed(std::uint64_t lines) {
  refused_ += lines;
  report_.note(fmt::format("{} more lines were refused", lines));
}

AckClientEnd Sending::send_turned_away() {
  Clock::time_point last_taken = Clock::now();
  while (!turned_away_.empty()) {
    const std::size_t before = turned_away_.size();
    std::this_thread::sleep_for(std::min(kTurnedAwayPause, options_.retry_for));
    turned_away_bytes_ = 0;
    const AckClientEnd end = send_once_more(std::exchange(turned_away_, {}));
    if (end != AckClientEnd::done) return end;
    if (turned_away_.size() < before) last_taken = Clock::now();
    if (Clock::now() - last_taken < options_.retry_for) continue;
    for (const TurnedAway& line : std::exchange(turned_away_, {})) {
      ++refused_;
      report_.refused(line.line, "full");
    }
  }
  return AckClientEnd::done;
}

AckClientEnd Sending::send_once_more(std::vector<TurnedAway> lines) {
  LineWindow window(SIZE_MAX);
  for (const TurnedAway& line : lines) window.append(line.text + "\n");
  second_try_ = &lines;
  const AckClientEnd end = converse(random_name("send:again"), window, nullptr);
  second_try_ = nullptr;
  if (end != AckClientEnd::done) turned_away_ = std::move(lines);
  return end;
}

SendCounts Sending::counts() const {
  SendCounts counts;
  counts.found = found_;
  counts.refused = refused_;
  counts.blank = reader_.blank_lines();
  counts.unacked = window_.last_line() - window_.acked() + turned_away_.size() +
                   (second_try_ ? second_try_->size() : 0);
  counts.acked = window_.last_line() - found_ - counts.unacked;
  return counts;
}

int Sending::finish(AckClientEnd end) {
  if (reader_.ended() && reader_.left_to_skip() > 0) {
    report_.note(fmt::format(
        "the daemon has {} lines of this name and the input has only {}: it is another input. "
        "Nothing was sent; --again sends it all, --producer names it",
        found_, found_ - reader_.left_to_skip()));
    return kExitRefused;
  }
  report_.summary(counts(), stage_);
  if (end == AckClientEnd::unavailable) {
    report_.note(fmt::format("gave up: no daemon answers at {}: {}", options_.socket, reason_));
  } else if (end == AckClientEnd::rejected) {
    report_.note(fmt::format("the daemon at {} refused to talk: {}", options_.socket, reason_));
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
  if (!options.acks) return copy_unacked(input.get(), options.socket, options.progress);
  return Sending(options, input.get()).run();
}

}  // namespace sluice::daemon
