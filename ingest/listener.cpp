#include "ingest/listener.hpp"

#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <exception>
#include <utility>

namespace sluice::ingest {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

// The longest line whose record the spool can hold.
constexpr std::size_t kLineBytesMax = 16 * 1024 * 1024 - 1024;
// Connections accepted in a row before those that are there get a turn.
constexpr int kAcceptsInTurn = 16;
constexpr std::chrono::milliseconds kAcceptPauseMin{100};
constexpr std::chrono::milliseconds kAcceptPauseMax{1000};
constexpr std::chrono::milliseconds kSilencePeriodMax{1000};

std::int64_t system_now_us() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

Peer peer_of(int fd) {
  Peer peer;
  int family = 0;
  socklen_t bytes = sizeof family;
  if (::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &family, &bytes) != 0 || family != AF_UNIX) {
    return peer;
  }
  peer.can_shut_reading = true;
  ucred credentials{};
  bytes = sizeof credentials;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) == 0) {
    peer.uid = credentials.uid;
  }
  return peer;
}

ListenerOptions with_defaults(ListenerOptions options) {
  options.line_bytes_max = std::min(options.line_bytes_max, kLineBytesMax);
  if (!options.now_us) options.now_us = system_now_us;
  return options;
}

void rethrow(const std::exception_ptr& failure) {
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

class Listener::Acceptor final {
 public:
  Acceptor(asio::io_context& io, ListeningSocket listening, ListenerPolicy how)
      : socket(std::move(listening)),
        policy(std::move(how)),
        descriptor(io, socket.release_fd()),
        timer(io) {}

  asio::awaitable<void> wait_readable() {
    boost::system::error_code ignored;
    co_await descriptor.async_wait(asio::posix::descriptor_base::wait_read,
                                   asio::redirect_error(asio::use_awaitable, ignored));
  }
  // Until `until` or wake().
  asio::awaitable<void> pause(Clock::time_point until) {
    timer.expires_at(until);
    boost::system::error_code ignored;
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  void wake() { timer.cancel(); }
  void close() {
    boost::system::error_code ignored;
    descriptor.close(ignored);
    timer.cancel();
  }

  ListeningSocket socket;  // its descriptor is `descriptor`
  const ListenerPolicy policy;
  asio::posix::stream_descriptor descriptor;
  asio::steady_timer timer;
};

Listener::Listener(asio::io_context& io, std::vector<ListeningSocket> sockets,
                   ListenerOptions options, const ListenerStages& stages)
    : io_(io),
      options_(with_defaults(std::move(options))),
      stages_(stages),
      gate_(stages.budget, options_.carry_bytes_max, stages.counters),
      turns_([this] {
        asio::post(io_, [weak = std::weak_ptr<Listener*>(self_)] {
          if (const auto self = weak.lock()) (*self)->turns_.next();
        });
      }),
      buffer_(std::make_unique_for_overwrite<char[]>(ReadGate::kReadBytesMax)),
      shared_{stages.budget,
              stages.parser,
              stages.queue,
              stages.counters,
              stages.reporter,
              gate_,
              turns_,
              stages.producers,
              stages.rejects,
              stages.spool_full,
              options_.facts,
              {buffer_.get(), ReadGate::kReadBytesMax},
              options_.line_bytes_max,
              options_.answer_timeout,
              options_.now_us,
              [this] { watch_silence(); }},
      silence_timer_(io),
      self_(std::make_shared<Listener*>(this)) {
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    acceptors_.push_back(std::make_unique<Acceptor>(
        io, std::move(sockets[i]),
        options_.policies.empty() ? ListenerPolicy{} : options_.policies.at(i)));
  }
  stages.budget.on_room([&io, weak = std::weak_ptr<Listener*>(self_)] {
    asio::post(io, [weak] {
      if (const auto self = weak.lock()) (*self)->gate_.room_came();
    });
  });
}

Listener::~Listener() = default;

void Listener::start() {
  for (const auto& acceptor : acceptors_) {
    ++accepting_;
    asio::co_spawn(io_, accept_on(*acceptor), [this](const std::exception_ptr& failure) {
      --accepting_;
      check_stopped();
      rethrow(failure);
    });
  }
}

asio::awaitable<void> Listener::accept_on(Acceptor& acceptor) {
  std::chrono::milliseconds pause = kAcceptPauseMin;
  int in_turn = 0;
  while (!stopping_) {
    if (full()) {
      co_await acceptor.pause(Clock::time_point::max());
      continue;
    }
    switch (accept_one(acceptor)) {
      case Accepted::connection:
      case Accepted::refused:
        pause = kAcceptPauseMin;
        if (++in_turn % kAcceptsInTurn == 0) co_await asio::post(io_, asio::use_awaitable);
        break;
      case Accepted::nobody:
        co_await acceptor.wait_readable();
        break;
      case Accepted::failed:
        co_await acceptor.pause(Clock::now() + pause);
        pause = std::min(pause * 2, kAcceptPauseMax);
        break;
    }
  }
}

Listener::Accepted Listener::accept_one(Acceptor& acceptor) {
  int fd = -1;
  do {
    fd = ::accept4(acceptor.descriptor.native_handle(), nullptr, nullptr,
                   SOCK_NONBLOCK | SOCK_CLOEXEC);
  } while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
  if (fd < 0) {
    if (errno == EAGAIN) return Accepted::nobody;
    // Out of descriptors or memory, most likely: what is connected goes on, the rest waits.
    stages_.reporter.accept_failed(acceptor.socket.name(), errno);
    return Accepted::failed;
  }
  const Peer peer = peer_of(fd);
  if (refused(acceptor.policy, peer.uid)) {
    ::close(fd);
    return Accepted::refused;
  }
  serve(fd, peer, acceptor.policy);
  return Accepted::connection;
}

bool Listener::refused(const ListenerPolicy& policy, std::uint32_t uid) {
  const auto uid_index = static_cast<std::size_t>(uid_class(uid));
  const auto& uids = policy.allow_uids;
  if (!uids.empty() && std::find(uids.begin(), uids.end(), uid) == uids.end()) {
    add(stages_.counters.connections_refused_uid[uid_index], 1);
    stages_.reporter.uid_refused(uid);
    return true;
  }
  const std::size_t most = options_.connections_per_uid_max;
  const auto found = connections_of_uid_.find(uid);
  if (most == 0 || found == connections_of_uid_.end() || found->second < most) return false;
  add(stages_.counters.connections_refused_cap[uid_index], 1);
  stages_.reporter.uid_has_too_many(uid, found->second);
  return true;
}

std::size_t Listener::connections_possible() const {
  rlimit limit{};
  if (options_.descriptors_kept == 0 || ::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return options_.connections_max;
  }
  const auto open_max = static_cast<std::size_t>(limit.rlim_cur);
  const std::size_t left = open_max - std::min(open_max, options_.descriptors_kept);
  return std::min(options_.connections_max, std::max<std::size_t>(left, 1));
}

// A count that goes up and down around the maximum is told once.
bool Listener::full() {
  const std::size_t count = connections_.size();
  const std::size_t most = connections_possible();
  if (count < most) {
    const std::size_t margin = (most + 3) / 4;
    if (count < most - margin) full_reported_ = false;
    return false;
  }
  if (!std::exchange(full_reported_, true)) {
    stages_.reporter.connections_full(count, most < options_.connections_max);
  }
  return true;
}

void Listener::serve(int fd, const Peer& accepted, const ListenerPolicy& policy) {
  Peer peer = accepted;
  peer.connection = ++last_connection_;
  Connection& connection =
      *connections_
           .emplace(peer.connection, std::make_unique<Connection>(io_, fd, peer, policy, shared_))
           .first->second;
  if (stopping_) connection.stop();
  ++connections_of_uid_[peer.uid];
  add(stages_.counters.connections_opened, 1);
  asio::co_spawn(io_, connection.run(), [this, peer](const std::exception_ptr& failure) {
    connection_ended(peer);
    rethrow(failure);
  });
}

void Listener::connection_ended(const Peer& peer) {
  connections_.erase(peer.connection);
  const auto of_uid = connections_of_uid_.find(peer.uid);
  if (--of_uid->second == 0) connections_of_uid_.erase(of_uid);
  add(stages_.counters.connections_closed, 1);
  for (const auto& acceptor : acceptors_) acceptor->wake();
  check_stopped();
}

void Listener::watch_silence() {
  if (std::exchange(watching_silence_, true)) return;
  silence_timer_.expires_after(std::min(options_.partial_line_timeout / 4, kSilencePeriodMax));
  silence_timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error) end_silent_connections();
  });
}

void Listener::end_silent_connections() {
  const auto since = Clock::now() - options_.partial_line_timeout;
  bool watch_on = false;
  for (const auto& [number, connection] : connections_) {
    if (connection->end_if_silent(since)) watch_on = true;
  }
  watching_silence_ = false;
  if (watch_on) watch_silence();
}

void Listener::stop(std::function<void()> on_stopped) {
  on_stopped_ = std::move(on_stopped);
  stopping_ = true;
  for (const auto& [number, connection] : connections_) connection->stop();
  for (const auto& acceptor : acceptors_) {
    acceptor->socket.remove_file();
    // They have connected, and may have written and left already.
    while (!acceptor->socket.adopted() && !full()) {
      const Accepted accepted = accept_one(*acceptor);
      if (accepted == Accepted::nobody || accepted == Accepted::failed) break;
    }
    acceptor->close();
  }
  // Never from inside stop(), even if nobody is there.
  asio::post(io_, [weak = std::weak_ptr<Listener*>(self_)] {
    if (const auto self = weak.lock()) (*self)->check_stopped();
  });
}

void Listener::close_all() {
  for (const auto& [number, connection] : connections_) connection->close();
}

void Listener::check_stopped() {
  if (!stopping_ || stopped_ || accepting_ != 0 || !connections_.empty()) return;
  stopped_ = true;
  silence_timer_.cancel();
  if (on_stopped_) on_stopped_();
}

}  // namespace sluice::ingest
