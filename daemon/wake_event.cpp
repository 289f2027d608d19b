// A doorbell on an eventfd.
#include "daemon/wake_event.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <system_error>

namespace sluice::daemon {
namespace {

int open_eventfd() {
  const int fd = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (fd < 0) {
    throw std::system_error(errno, std::generic_category(), "cannot make an eventfd");
  }
  return fd;
}

int poll_timeout(std::optional<std::chrono::milliseconds> timeout) {
  if (!timeout) return -1;
  return static_cast<int>(
      std::clamp<std::int64_t>(timeout->count(), 0, std::numeric_limits<int>::max()));
}

}  // namespace

WakeEvent::WakeEvent() : fd_(open_eventfd()) {}

WakeEvent::~WakeEvent() {
  ::close(fd_);
}

void WakeEvent::ring() {
  // An exchange even when it is rung already: a plain load could be older than the work just given.
  if (state_.exchange(State::rung, std::memory_order_acq_rel) != State::sleeping) return;
  const std::uint64_t one = 1;
  // Fails only when the counter is at its end, and then fd_ is readable anyway.
  [[maybe_unused]] const ssize_t written = ::write(fd_, &one, sizeof one);
}

bool WakeEvent::about_to_sleep() {
  State expected = State::awake;
  if (state_.compare_exchange_strong(expected, State::sleeping, std::memory_order_acq_rel)) {
    return true;
  }
  state_.exchange(State::awake, std::memory_order_acq_rel);
  return false;
}

void WakeEvent::awake() {
  state_.exchange(State::awake, std::memory_order_acq_rel);
  // Always read: a ringer may have been between its exchange and its write when this thread woke
  // last.
  std::uint64_t rings = 0;
  [[maybe_unused]] const ssize_t got = ::read(fd_, &rings, sizeof rings);
}

void WakeEvent::wait(std::optional<std::chrono::milliseconds> timeout) {
  if (!about_to_sleep()) return;
  pollfd poller{.fd = fd_, .events = POLLIN, .revents = 0};
  ::poll(&poller, 1, poll_timeout(timeout));
  awake();
}

}  // namespace sluice::daemon
