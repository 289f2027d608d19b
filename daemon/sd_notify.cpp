// What systemd is told and hands over, by libsystemd.
#include "daemon/sd_notify.hpp"

#include <systemd/sd-daemon.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace sluice::daemon {
namespace {

// The protocol is lines of NAME=value, so a value is one line.
std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

// A service manager that does not listen is no reason to fail.
void notify(const std::string& lines) {
  static_cast<void>(::sd_notify(0, lines.c_str()));
}

std::string monotonic_usec() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::to_string(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

}  // namespace

void ServiceManager::ready(const std::string& status) const {
  notify("READY=1\nSTATUS=" + one_line(status));
}

void ServiceManager::status(const std::string& line) const {
  notify("STATUS=" + one_line(line));
}

void ServiceManager::reloading() const {
  notify("RELOADING=1\nMONOTONIC_USEC=" + monotonic_usec());
}

void ServiceManager::stopping(const std::string& status, std::chrono::milliseconds timeout) const {
  const auto us = std::chrono::duration_cast<std::chrono::microseconds>(timeout).count();
  notify("STOPPING=1\nEXTEND_TIMEOUT_USEC=" + std::to_string(us) + "\nSTATUS=" + one_line(status));
}

void ServiceManager::alive() const {
  notify("WATCHDOG=1");
}

std::optional<std::chrono::milliseconds> ServiceManager::watchdog_interval() {
  std::uint64_t us = 0;
  if (::sd_watchdog_enabled(0, &us) <= 0) return std::nullopt;
  return std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::microseconds(static_cast<std::int64_t>(us)));
}

std::vector<InheritedSocket> take_inherited_sockets() {
  char** names = nullptr;
  const int count = ::sd_listen_fds_with_names(1, &names);
  std::vector<InheritedSocket> sockets;
  for (int i = 0; i < count; ++i) {
    sockets.push_back({.fd = SD_LISTEN_FDS_START + i, .name = names[i]});
    std::free(names[i]);
  }
  std::free(names);
  return sockets;
}

ProgressWatch::ProgressWatch(std::vector<WatchedStage> stages, std::chrono::milliseconds patience)
    : patience_(patience) {
  for (WatchedStage& stage : stages) {
    seen_.push_back({.stage = std::move(stage), .progress = 0, .waiting_since = std::nullopt});
  }
}

void ProgressWatch::look(Clock::time_point now) {
  stuck_.clear();
  for (Seen& seen : seen_) {
    const std::uint64_t progress = seen.stage.progress();
    const bool moved = std::exchange(seen.progress, progress) != progress;
    if (!seen.stage.has_work()) {
      seen.waiting_since.reset();
    } else if (moved || !seen.waiting_since) {
      seen.waiting_since = now;
    } else if (now - *seen.waiting_since >= patience_) {
      stuck_.push_back(seen.stage.name);
    }
  }
}

}  // namespace sluice::daemon
