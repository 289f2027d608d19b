// A program that this one runs beside itself, started with another user's rights if need be.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace sluice::daemon {

struct User {
  uid_t uid = 0;
  gid_t gid = 0;
};

struct ChildOptions {
  std::vector<std::string> arguments;  // the program's path first
  std::optional<User> user;            // none: as this process
  std::string output;                  // file that stdout and stderr are appended to; empty: ours
  std::vector<std::pair<std::string, std::string>> environment;  // on top of ours
};

// The child has a session of its own, so that a Ctrl-C on the terminal does not reach it; it gets
// SIGTERM when this process dies. All signals are unblocked in it.
//
// REQUIRES: no other thread runs when one is started.
// Thread: the one that started it.
class ChildProcess final {
 public:
  // Throws std::system_error if it cannot be started. A program that is not there ends with 127.
  explicit ChildProcess(const ChildOptions& options);
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  // Kills it if it still runs.
  ~ChildProcess();

  void signal(int number) const;
  // Its exit code, 128 + n if signal n ended it, or none while it runs.
  [[nodiscard]] std::optional<int> exit_code();
  [[nodiscard]] std::optional<int> wait(std::chrono::milliseconds timeout);

 private:
  pid_t pid_;
  std::optional<int> exit_code_;
};

// Runs a program to its end.
[[nodiscard]] int run_child(const ChildOptions& options);

}  // namespace sluice::daemon
