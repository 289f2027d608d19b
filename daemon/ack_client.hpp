// A named producer's conversation with the daemon: lines go out, acks and nacks come back, over as
// many connections as it takes.
#pragma once

#include <chrono>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "daemon/answer_line.hpp"
#include "daemon/line_reader.hpp"
#include "daemon/line_window.hpp"

namespace sluice::daemon {

struct AckClientOptions {
  std::string socket;    // path
  std::string producer;  // the name that the lines are numbered under
  // How long nothing may get better while no daemon answers or has room, before that is given up;
  // as long a daemon that answered may ack nothing of what waits for it.
  std::chrono::milliseconds retry_for{30'000};
};

// What the conversation tells while it goes on. Lines are the producer's numbers.
class AckClientReporter {
 public:
  virtual ~AckClientReporter() = default;

  // Lines up to this one were stored under this name before: they are not sent.
  virtual void found(std::uint64_t have) = 0;
  virtual void greeted(const AnswerLine& hello) = 0;
  // For good. Each line once.
  virtual void refused(std::uint64_t line, const std::string& code) = 0;
  // So many more lines were refused, and the daemon does not know any more which.
  virtual void refused_unnamed(std::uint64_t lines) = 0;
  // Nobody answers; it is tried again until then.
  virtual void away(std::string_view reason, std::chrono::milliseconds left) = 0;
  // The daemon has no room for more; it is tried again until then.
  virtual void no_room(std::chrono::milliseconds left) = 0;
  // Now and then, at least five times a second.
  virtual void tick() = 0;
};

enum class AckClientEnd {
  done,         // every line that was read is acked
  unavailable,  // nobody answered for too long
  no_room,      // the daemon took no more for too long
  stalled,      // the daemon answered the hello, and then acked nothing for too long
  rejected,     // the daemon refused the hello
};

// After a loss every line that is not acked is sent again under its number: the daemon knows by the
// numbers which of them it has, and a refusal that got lost with the connection is told again. A
// line that found no room is a loss of the connection too: the daemon takes nothing behind it
// there. Thread: one; run() blocks.
class AckClient final {
 public:
  // Borrows all of them.
  AckClient(AckClientOptions options, LineWindow& window, LineReader& input,
            AckClientReporter& reporter);
  AckClient(const AckClient&) = delete;
  AckClient& operator=(const AckClient&) = delete;

  // Throws std::system_error if the input cannot be read.
  [[nodiscard]] AckClientEnd run();
  // Lines that were told as refused by their number and are not acked.
  [[nodiscard]] std::uint64_t refused_unacked() const { return refused_.size(); }
  // Why run() ended with something else than `done`.
  [[nodiscard]] const std::string& reason() const { return reason_; }

 private:
  using Clock = std::chrono::steady_clock;
  enum class Turn { more, lost, no_room, stalled, finished, rejected, again };

  struct Connection {
    int fd;
    std::string received;      // the beginning of an answer whose end has not come
    bool greeted = false;      // the hello is answered
    bool write_ended = false;  // we said that nothing more comes, or cannot say anything
    Clock::time_point opened = Clock::now();
    Clock::time_point moved = opened;  // the hello or an ack came, or nothing was waited for
  };

  [[nodiscard]] Turn converse(int fd);
  [[nodiscard]] Turn turn(Connection& connection);
  [[nodiscard]] Turn receive(Connection& connection);
  [[nodiscard]] Turn handle(Connection& connection, const AnswerLine& answer);
  [[nodiscard]] Turn greet(Connection& connection, const AnswerLine& answer);
  [[nodiscard]] Turn look_at_clock(Connection& connection);
  void send_lines(Connection& connection);
  void read_input();
  [[nodiscard]] bool wants_input() const;
  [[nodiscard]] bool nothing_more_comes() const;
  void acked(Connection& connection, std::uint64_t line);

  const AckClientOptions options_;
  LineWindow& window_;
  LineReader& input_;
  AckClientReporter& reporter_;
  std::uint64_t offset_ = 0;         // the connection's line numbers plus this are ours
  std::set<std::uint64_t> refused_;  // lines that were reported and are not acked
  Clock::time_point last_progress_ = Clock::now();
  std::chrono::milliseconds pause_;
  std::string reason_;
};

}  // namespace sluice::daemon
