// Carriage returns only where somebody looks.
#include "daemon/send_report.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include "daemon/printable.hpp"

namespace sluice::daemon {

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kProgressInterval{200};
constexpr seconds kStallTold{10};
constexpr seconds kToldAgain{10};

double seconds_between(std::chrono::steady_clock::time_point begin,
                       std::chrono::steady_clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

}  // namespace

SendReport::SendReport(std::string source, std::string socket, bool progress)
    : source_(printable(source)),
      socket_(printable(socket)),
      terminal_(progress && ::isatty(STDERR_FILENO) == 1) {}

void SendReport::say(std::string_view text) {
  clear_progress();
  fmt::print(stderr, "sluice: {}\n", text);
}

void SendReport::clear_progress() {
  if (line_is_shown_) fmt::print(stderr, "\r\x1b[K");
  line_is_shown_ = false;
}

void SendReport::refused(std::uint64_t line, std::string_view code) {
  clear_progress();
  fmt::print(stderr, "{}:{}: refused: {}\n", source_, line, printable(code, 100));
}

void SendReport::note(std::string_view text) {
  say(text);
}

void SendReport::away(std::string_view reason, milliseconds left) {
  away_reason_ = printable(reason);
  if (away_) return;
  away_ = true;
  say(fmt::format("no daemon answers at {} ({}); trying again for {:.0f} s", socket_, away_reason_,
                  std::chrono::duration<double>(left).count()));
}

void SendReport::answered() {
  if (away_) say("the daemon answers");
  away_ = false;
  moved_ = Clock::now();
}

void SendReport::no_room(milliseconds left) {
  const Clock::time_point now = Clock::now();
  if (now - no_room_told_ < kToldAgain) return;
  no_room_told_ = now;
  say(fmt::format("the daemon at {} has no room; trying again for {:.0f} s", socket_,
                  std::chrono::duration<double>(left).count()));
}

void SendReport::tick(const SendCounts& counts) {
  const Clock::time_point now = Clock::now();
  if (counts.acked != moved_acked_ || counts.unacked == 0) {
    moved_acked_ = counts.acked;
    moved_ = now;
    stall_told_ = false;
  } else if (!stall_told_ && !away_ && now - moved_ > kStallTold) {
    stall_told_ = true;
    say(
        fmt::format("waiting: the daemon answers, and no line was acked for {} s. Its log and "
                    "/readyz say whether it has room",
                    kStallTold.count()));
  }
  if (!terminal_ || now - shown_ < kProgressInterval) return;
  const double elapsed = seconds_between(shown_ == Clock::time_point{} ? begun_ : shown_, now);
  const double rate = static_cast<double>(counts.acked - shown_acked_) / elapsed;
  rate_ = rate_ == 0 ? rate : 0.8 * rate_ + 0.2 * rate;
  shown_ = now;
  shown_acked_ = counts.acked;
  line_is_shown_ = true;
  fmt::print(stderr, "\r\x1b[K{} acked, {:.0f}/s, {} refused, {} on their way{}{}", counts.acked,
             rate_, counts.refused, counts.unacked, away_ ? "; waiting: " : "",
             away_ ? away_reason_ : "");
}

void SendReport::summary(const SendCounts& counts, std::string_view stage) {
  std::string text = fmt::format("{} lines {}, {} refused in {:.3f} s", counts.stored,
                                 stage == "committed" ? "committed" : "stored", counts.refused,
                                 seconds_between(begun_, Clock::now()));
  if (counts.found > 0) text += fmt::format("; {} had been sent before", counts.found);
  if (counts.blank > 0) text += fmt::format("; {} were empty", counts.blank);
  if (counts.unacked > 0)
    text += fmt::format("; {} were read and are not known to be stored", counts.unacked);
  say(text);
}

}  // namespace sluice::daemon
