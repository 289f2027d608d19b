// What systemd is told (ready, status, stopping, alive) and what it hands over (sockets), and when
// the daemon counts as alive. Without systemd all of it does nothing.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace sluice::daemon {

// Says to the service manager behind NOTIFY_SOCKET. Thread: any, no state of its own.
class ServiceManager final {
 public:
  void ready(const std::string& status) const;
  // One line for people, as `systemctl status` shows it.
  void status(const std::string& line) const;
  void reloading() const;
  // The service may take as much longer to stop.
  void stopping(const std::string& status, std::chrono::milliseconds timeout) const;
  void alive() const;

  // How often alive() must come at least, or none if nobody waits for it. Call it twice as often.
  [[nodiscard]] static std::optional<std::chrono::milliseconds> watchdog_interval();
};

// A listening socket that the service manager opened (LISTEN_FDS).
struct InheritedSocket {
  int fd = -1;       // the caller's to close; close-on-exec is set
  std::string name;  // FileDescriptorName= of the socket unit, "unknown" without one
};

// Takes them over: a second call returns none, and a child process sees none.
// REQUIRES: no other thread runs yet, as it changes the environment.
[[nodiscard]] std::vector<InheritedSocket> take_inherited_sockets();

// A part of the daemon with a loop of its own. Both functions are called on the watch's thread.
struct WatchedStage {
  std::string name;
  // A number that changes whenever the stage does a bounded piece of its work. For one that may
  // wait for the world outside (a lane while Postgres is down) that is a turn of its loop, not a
  // batch.
  std::function<std::uint64_t()> progress;
  std::function<bool()> has_work;
};

// Tells a daemon that is stuck from one that has nothing to do: a stage is stuck when it has had
// work for `patience` and its progress has not changed.
//
// Thread: one.
class ProgressWatch final {
 public:
  using Clock = std::chrono::steady_clock;

  ProgressWatch(std::vector<WatchedStage> stages, std::chrono::milliseconds patience);

  // Looks at every stage. Call it at least twice within `patience`.
  void look(Clock::time_point now);

  // As of the last look(): names of stuck stages. Empty: all is well, alive() may be sent.
  [[nodiscard]] const std::vector<std::string>& stuck() const { return stuck_; }

 private:
  struct Seen {
    WatchedStage stage;
    std::uint64_t progress = 0;
    std::optional<Clock::time_point> waiting_since;
  };

  const std::chrono::milliseconds patience_;
  std::vector<Seen> seen_;
  std::vector<std::string> stuck_;
};

}  // namespace sluice::daemon
