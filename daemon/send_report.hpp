// What `sluice send` says on stderr: refused lines, waiting, a progress line on a terminal, and the
// summary.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace sluice::daemon {

struct SendCounts {
  std::uint64_t found = 0;    // lines that another run of the same name had sent
  std::uint64_t acked = 0;    // lines of this run that are done with
  std::uint64_t refused = 0;  // of this run
  std::uint64_t unacked = 0;  // lines that were read and are not done with
  // At the end only.
  std::uint64_t stored = 0;
  std::uint64_t blank = 0;
};

// Never says what is in a line. Thread: one.
class SendReport final {
 public:
  // `source`: what the lines are read from, for messages. `progress`: whether a line that is
  // written over is wanted, if stderr is a terminal.
  SendReport(std::string source, std::string socket, bool progress);
  SendReport(const SendReport&) = delete;
  SendReport& operator=(const SendReport&) = delete;

  void refused(std::uint64_t line, std::string_view code);
  void note(std::string_view text);
  // No daemon answers. Said once until answered().
  void away(std::string_view reason, std::chrono::milliseconds left);
  void answered();
  // The daemon has no room. Said now and then.
  void no_room(std::chrono::milliseconds left);
  // To be called often: shows the progress, and says when nothing moves.
  void tick(const SendCounts& counts);
  // `stage`: what an ack meant.
  void summary(const SendCounts& counts, std::string_view stage);

 private:
  using Clock = std::chrono::steady_clock;

  void clear_progress();
  void say(std::string_view text);

  const std::string source_;
  const std::string socket_;
  const bool terminal_;
  const Clock::time_point begun_ = Clock::now();
  bool away_ = false;
  std::string away_reason_;
  Clock::time_point no_room_told_{};

  Clock::time_point shown_{};
  std::uint64_t shown_acked_ = 0;
  double rate_ = 0;  // acks per second, smoothed
  bool line_is_shown_ = false;

  std::uint64_t moved_acked_ = 0;
  Clock::time_point moved_ = Clock::now();  // when an ack came, or there was nothing to wait for
  bool stall_told_ = false;
};

}  // namespace sluice::daemon
