#include "ingest/connection.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <utility>

namespace sluice::ingest {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

// A chunk that holds more is pushed and a new one begun: pieces of this size are dealt to lanes.
constexpr std::size_t kChunkBytesMax = 128 * 1024;
// With the record that takes the chunk past that.
constexpr std::size_t kChunkCapacityMax = kChunkBytesMax + 4096;

}  // namespace

// One read's lines on their way into chunks; what they come to is counted once, in its end.
class Connection::Turn final {
 public:
  Turn(Connection& connection, std::size_t bytes)
      : connection_(connection),
        shared_(connection.shared_),
        receipt_{shared_.now_us(), connection.peer_.uid},
        bytes_left_(bytes) {}
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() = default;

  void take(const Line& line) {
    switch (line.kind) {
      case LineKind::empty:
        ++empty_;
        return;
      case LineKind::too_long:
        ++received_;
        refuse(Refusal::too_long, line.number);
        return;
      case LineKind::whole:
        ++received_;
        parse(line);
        return;
    }
  }

  void end() {
    push();
    if (received_ != 0) add(shared_.counters.lines_received, received_);
    if (empty_ != 0) add(shared_.counters.lines_empty, empty_);
  }

 private:
  void parse(const Line& line) {
    if (chunk_.capacity_bytes() == 0)
      chunk_ = spool::Chunk(shared_.budget, guess(line.text.size()));
    bytes_left_ -= std::min(bytes_left_, line.text.size() + 1);
    if (const auto refusal = shared_.parser.parse(line.text, receipt_, chunk_)) {
      refuse(*refusal, line.number);
      return;
    }
    line_bytes_ += line.text.size();
    if (chunk_.bytes().size() > kChunkBytesMax) push();
  }

  // The capacity for a chunk that begins with a line of this length.
  [[nodiscard]] std::size_t guess(std::size_t line_bytes) const {
    const std::size_t rest = bytes_left_ * connection_.record_percent_ / 100;
    return std::max(line_bytes + line_bytes / 4, std::min(rest, kChunkCapacityMax)) + 512;
  }

  void push() {
    if (chunk_.empty()) return;
    // A little more than this time, so that a chunk seldom has to grow.
    connection_.record_percent_ =
        std::min<std::size_t>(chunk_.bytes().size() * 100 / line_bytes_ + 5, 1000);
    line_bytes_ = 0;
    add(shared_.counters.events_accepted, chunk_.count());
    shared_.queue.push(*connection_.producer_, std::exchange(chunk_, {}), {});
  }

  void refuse(Refusal reason, std::uint64_t line) {
    add(shared_.counters.refused[static_cast<std::size_t>(reason)], 1);
    shared_.reporter.line_refused(
        {reason, connection_.peer_.uid, connection_.peer_.connection, line});
  }

  Connection& connection_;
  ConnectionShared& shared_;
  const Receipt receipt_;
  std::size_t bytes_left_;  // of the read, not yet parsed
  spool::Chunk chunk_;
  std::size_t line_bytes_ = 0;  // of the lines in chunk_
  std::uint64_t received_ = 0;
  std::uint64_t empty_ = 0;
};

Connection::Connection(asio::io_context& io, int fd, const Peer& peer, ConnectionShared& shared)
    : shared_(shared),
      peer_(peer),
      socket_(io, fd),
      woken_(io, Clock::time_point::max()),
      splitter_(shared.line_bytes_max),
      producer_(shared.queue.make_producer()) {}

Connection::~Connection() {
  shared_.gate.leave(*this);
}

asio::awaitable<void> Connection::run() {
  Outcome outcome = Outcome::drained;
  while (!closing_) {
    if (outcome == Outcome::drained) {
      co_await wait_readable();
    } else {
      // One turn each: the others go first.
      co_await asio::post(socket_.get_executor(), asio::use_awaitable);
    }
    const std::size_t bytes_max = co_await wait_for_turn();
    if (closing_) break;

    const std::uint64_t before = bytes_read_;
    outcome = read(bytes_max);
    shared_.gate.done(*this, bytes_read_ - before, splitter_.carry_bytes());
    if (outcome == Outcome::ended) break;
    if (outcome == Outcome::drained && stopping_) break;
    if (final_bytes_ >= kFinalBytesMax) break;
  }
  finish();
}

// Level-triggered in effect: asio arms the descriptor anew for each wait, so what came before
// counts.
asio::awaitable<void> Connection::wait_readable() {
  if (stopping_ || closing_) co_return;
  if (splitter_.in_line()) {
    silent_since_ = Clock::now();
    shared_.watch_silence();
  }
  boost::system::error_code ignored;  // a cancel by stop() or close()
  co_await socket_.async_wait(asio::posix::descriptor_base::wait_read,
                              asio::redirect_error(asio::use_awaitable, ignored));
  silent_since_ = Clock::time_point::max();
}

asio::awaitable<std::size_t> Connection::wait_for_turn() {
  while (!closing_) {
    const std::size_t bytes_max = shared_.gate.ask(*this);
    if (bytes_max != 0) co_return bytes_max;
    boost::system::error_code ignored;
    co_await woken_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }
  co_return 0;
}

// Without a control buffer, so descriptors that a producer sends along are dropped by the kernel.
Connection::Outcome Connection::read(std::size_t bytes_max) {
  ssize_t got = 0;
  do {
    got = ::recv(socket_.native_handle(), shared_.buffer.data(), bytes_max, MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return errno == EAGAIN ? Outcome::drained : Outcome::ended;
  if (got == 0) return Outcome::ended;

  const auto bytes = static_cast<std::size_t>(got);
  bytes_read_ += bytes;
  take({shared_.buffer.data(), bytes});
  if (stopping_) {
    final_bytes_ += bytes;
    return Outcome::more;
  }
  // Less than asked for: there was no more, most likely. The wait finds out.
  return bytes == bytes_max ? Outcome::more : Outcome::drained;
}

void Connection::take(std::string_view bytes) {
  add(shared_.counters.bytes_received, bytes.size());
  Turn turn(*this, bytes.size() + splitter_.carry_bytes());
  splitter_.feed(bytes, [&](const Line& line) { turn.take(line); });
  turn.end();
}

void Connection::finish() {
  const bool partial = splitter_.finish();
  if (partial) {
    add(timed_out_ ? shared_.counters.lines_timed_out : shared_.counters.lines_partial, 1);
  }
  boost::system::error_code ignored;
  socket_.close(ignored);
}

void Connection::stop() {
  stopping_ = true;
  if (peer_.can_shut_reading) ::shutdown(socket_.native_handle(), SHUT_RD);
  boost::system::error_code ignored;
  socket_.cancel(ignored);
}

void Connection::close() {
  closing_ = true;
  boost::system::error_code ignored;
  socket_.cancel(ignored);
  wake();
}

bool Connection::end_if_silent(Clock::time_point since) {
  if (silent_since_ == Clock::time_point::max()) return false;
  if (silent_since_ > since) return true;
  // Bytes, or the end, may have come this moment: then the wait is about to find them.
  char byte = 0;
  const ssize_t got = ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (got >= 0 || errno != EAGAIN) return true;
  timed_out_ = true;
  close();
  return false;
}

void Connection::wake() {
  woken_.cancel();
}

}  // namespace sluice::ingest
