// A doorbell for a thread that sleeps in poll(): others ring after they gave it work, and pay a
// system call only if it sleeps.
#pragma once

#include <atomic>
#include <chrono>
#include <optional>

namespace sluice::daemon {

// The sleeper's turn:
//
//   for (;;) {
//     do all work that is there;
//     if (bell.about_to_sleep()) {
//       poll(bell.fd() and what else it waits for);
//       bell.awake();
//     }
//   }
//
// A ring that comes after the sleeper began to look for work makes about_to_sleep() say no, or ends
// the poll(): none is lost, so the sleeper need not look again in between. It may wake for nothing.
//
// Threads: ring() any; the rest the sleeper's.
class WakeEvent final {
 public:
  // Throws std::system_error when the process has no descriptor left.
  WakeEvent();
  WakeEvent(const WakeEvent&) = delete;
  WakeEvent& operator=(const WakeEvent&) = delete;
  ~WakeEvent();

  // Call after the work is where the sleeper will look for it.
  void ring();

  // Readable while somebody rang a sleeper.
  [[nodiscard]] int fd() const { return fd_; }

  // False: somebody rang since the last call, look for work instead. True: sleep now, then awake().
  [[nodiscard]] bool about_to_sleep();
  void awake();

  // Sleeps until somebody rings, or the timeout passes, or a signal comes. None: no timeout.
  void wait(std::optional<std::chrono::milliseconds> timeout);

 private:
  enum class State {
    awake,
    sleeping,  // ring() must write to fd_
    rung,      // the sleeper knows already, or will before it sleeps
  };

  const int fd_;
  // Publishes the ringer's work to the sleeper. Every change is one exchange, so that either the
  // ringer sees `sleeping` or the sleeper sees `rung`.
  std::atomic<State> state_{State::awake};
};

}  // namespace sluice::daemon
