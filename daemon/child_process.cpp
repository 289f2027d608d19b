// fork, drop rights, exec; and wait.
#include "daemon/child_process.hpp"

#include <fcntl.h>
#include <grp.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <system_error>
#include <thread>

namespace sluice::daemon {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kLookInterval{10};
constexpr int kCannotRun = 127;

[[noreturn]] void give_up(const char* step) {
  const char* const reason = std::strerror(errno);
  for (const char* part : {"sluice: a program cannot be run: ", step, ": ", reason, "\n"})
    static_cast<void>(!::write(STDERR_FILENO, part, std::strlen(part)));
  ::_exit(kCannotRun);
}

void take_rights_of(const User& user) {
  if (::setgroups(1, &user.gid) != 0 || ::setgid(user.gid) != 0 || ::setuid(user.uid) != 0)
    give_up("changing the user");
}

void send_output_to(int fd) {
  if (::dup2(fd, STDOUT_FILENO) < 0 || ::dup2(fd, STDERR_FILENO) < 0) give_up("its output");
  const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (nothing < 0 || ::dup2(nothing, STDIN_FILENO) < 0) give_up("/dev/null");
}

// Between fork and exec, in the child.
[[noreturn]] void become(const ChildOptions& options, int output, char* const* arguments,
                         pid_t parent) {
  ::setsid();
  if (output >= 0) send_output_to(output);
  if (options.user) take_rights_of(*options.user);
  // After the change of rights, which would take it back.
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::_exit(kCannotRun);
  for (const auto& [name, value] : options.environment) ::setenv(name.c_str(), value.c_str(), 1);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execv(arguments[0], arguments);
  give_up(arguments[0]);
}

int open_output(const std::string& file) {
  if (file.empty()) return -1;
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), file);
  return fd;
}

}  // namespace

ChildProcess::ChildProcess(const ChildOptions& options) : pid_(-1) {
  const int output = open_output(options.output);
  std::vector<std::string> texts = options.arguments;
  std::vector<char*> arguments;
  for (std::string& text : texts) arguments.push_back(text.data());
  arguments.push_back(nullptr);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) become(options, output, arguments.data(), parent);
  const int error = errno;
  if (output >= 0) ::close(output);
  if (pid_ < 0) throw std::system_error(error, std::generic_category(), "fork");
}

ChildProcess::~ChildProcess() {
  if (exit_code()) return;
  signal(SIGKILL);
  static_cast<void>(::waitpid(pid_, nullptr, 0));
}

void ChildProcess::signal(int number) const {
  // Once it was waited for, its number may be another's.
  if (!exit_code_) ::kill(pid_, number);
}

std::optional<int> ChildProcess::exit_code() {
  int status = 0;
  if (!exit_code_ && ::waitpid(pid_, &status, WNOHANG) == pid_)
    exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return exit_code_;
}

std::optional<int> ChildProcess::wait(milliseconds timeout) {
  const Clock::time_point deadline = Clock::now() + timeout;
  while (!exit_code() && Clock::now() < deadline) std::this_thread::sleep_for(kLookInterval);
  return exit_code_;
}

int run_child(const ChildOptions& options) {
  ChildProcess child(options);
  for (;;) {
    if (const auto code = child.wait(std::chrono::hours{1})) return *code;
  }
}

}  // namespace sluice::daemon
