#include "ingest/connection.hpp"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <string>
#include <utility>
#include <variant>

namespace sluice::ingest {
namespace {

namespace asio = boost::asio;
using Clock = std::chrono::steady_clock;

// A chunk that holds more is pushed and a new one begun: pieces of this size are dealt to lanes.
constexpr std::size_t kChunkBytesMax = 128 * 1024;
// With the record that takes the chunk past that.
constexpr std::size_t kChunkCapacityMax = kChunkBytesMax + 4096;

// A chunk's lines all come of one read and the line under way before it.
static_assert(ReadGate::kReadBytesMax < spool::kLineDeltaMax);

// How often a connection that waits for its last acks looks whether anybody is there to read them.
constexpr std::chrono::milliseconds kHangupPeriod{200};
// A stop waits for so small a part of the time that a producer otherwise has to read its answers.
constexpr int kAnswerTimeAtStop = 15;
// How long, and for how many bytes, a connection is read to nowhere so that its last answer is not
// lost to a reset.
constexpr std::chrono::seconds kLingerTime{1};
constexpr std::size_t kLingerBytesMax = 256 * 1024;

}  // namespace

// One read's lines on their way into chunks; what they come to is counted once, in its end.
class Connection::Turn final {
 public:
  // `has_room`: if not, the lines are turned away.
  Turn(Connection& connection, std::size_t bytes, bool has_room)
      : connection_(connection),
        shared_(connection.shared_),
        has_room_(has_room),
        receipt_{shared_.now_us(), connection.peer_.uid, 0},
        bytes_left_(bytes) {}
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() = default;

  void take(const Line& line) {
    if (connection_.hello_refused_) return;
    if (line.number == 1 && line.kind == LineKind::whole && connection_.greet(line.text)) return;
    number_ = connection_.session_ ? line.number - 1 : line.number;
    switch (line.kind) {
      case LineKind::empty:
        ++empty_;
        return;
      case LineKind::too_long:
        ++received_;
        refuse(Refusal::too_long, 0, "");
        return;
      case LineKind::whole:
        ++received_;
        if (has_room_ && !takes_no_more()) {
          parse(line.text);
        } else {
          turn_away(line.text);
        }
        return;
    }
  }

  void end() {
    push();
    if (connection_.session_ && number_ != 0) connection_.session_->handled(number_);
    if (received_ != 0) add(shared_.counters.lines_received, received_);
    if (empty_ != 0) add(shared_.counters.lines_empty, empty_);
    if (turned_away_ != 0) tell_turned_away();
  }

 private:
  void parse(std::string_view line) {
    if (chunk_.capacity_bytes() == 0) chunk_ = spool::Chunk(shared_.budget, guess(line.size()));
    if (chunk_.empty()) first_line_ = number_;
    receipt_.line_delta = static_cast<std::uint32_t>(number_ - first_line_);
    bytes_left_ -= std::min(bytes_left_, line.size() + 1);
    if (const auto refusal = connection_.parser_.parse(line, receipt_, chunk_)) {
      refuse(*refusal, line.size(), connection_.parser_.kept_line(),
             connection_.parser_.refused_field());
      return;
    }
    last_line_ = number_;
    line_bytes_ += line.size();
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
    Origin origin;
    origin.first_line = first_line_;
    origin.on_full = connection_.policy_.on_full;
    if (connection_.session_) connection_.session_->enter_chunk(origin, last_line_);
    shared_.queue.push(*connection_.producer_, std::exchange(chunk_, {}), std::move(origin));
  }

  // `kept`: what may be kept of the line; `line_bytes` 0: not known.
  void refuse(Refusal reason, std::size_t line_bytes, std::string_view kept,
              std::string_view field = {}) {
    add(shared_.counters.refused[static_cast<std::size_t>(reason)], 1);
    shared_.reporter.line_refused(
        {reason, connection_.peer_.uid, connection_.peer_.connection, number_});
    if (connection_.session_) {
      connection_.session_->refused(number_, reason, field);
    } else {
      keep(reason, line_bytes, kept);
    }
  }

  // Of a producer that is told nothing.
  void keep(Refusal reason, std::size_t line_bytes, std::string_view kept) {
    if (shared_.rejects == nullptr) return;
    shared_.rejects->keep({refusal_code(reason), receipt_.received_us, connection_.peer_.uid,
                           connection_.peer_.connection, number_, line_bytes, kept});
  }

  [[nodiscard]] bool takes_no_more() const {
    return connection_.session_ && connection_.session_->takes_no_more();
  }

  void turn_away(std::string_view line) {
    ++turned_away_;
    if (connection_.session_) {
      connection_.session_->refused(number_, Refusal::full);
    } else if (connection_.policy_.on_full != OnFull::drop) {
      keep(Refusal::full, line.size(), connection_.parser_.redacts() ? "" : line);
    }
  }

  void tell_turned_away() {
    if (connection_.policy_.on_full == OnFull::drop) {
      add(shared_.counters.lines_dropped, turned_away_);
      return;
    }
    add(shared_.counters.refused[static_cast<std::size_t>(Refusal::full)], turned_away_);
    shared_.reporter.line_refused(
        {Refusal::full, connection_.peer_.uid, connection_.peer_.connection, number_});
  }

  Connection& connection_;
  ConnectionShared& shared_;
  const bool has_room_;
  Receipt receipt_;
  std::size_t bytes_left_;    // of the read, not yet parsed
  std::uint64_t number_ = 0;  // of the line at hand: after a hello from 1
  spool::Chunk chunk_;
  std::uint64_t first_line_ = 0;  // in chunk_
  std::uint64_t last_line_ = 0;   // in chunk_
  std::size_t line_bytes_ = 0;    // of the lines in chunk_
  std::uint64_t received_ = 0;
  std::uint64_t empty_ = 0;
  std::uint64_t turned_away_ = 0;
};

Connection::Connection(asio::io_context& io, int fd, const Peer& peer, const ListenerPolicy& policy,
                       ConnectionShared& shared)
    : io_(io),
      shared_(shared),
      peer_(peer),
      policy_(policy),
      parser_(policy.parser != nullptr ? *policy.parser : shared.parser),
      socket_(io, fd),
      woken_(io, Clock::time_point::max()),
      splitter_(shared.line_bytes_max),
      producer_(shared.queue.make_producer()),
      self_(std::make_shared<Connection*>(this)) {}

Connection::~Connection() {
  shared_.gate.leave(*this);
  shared_.turns.leave(*this);
}

asio::awaitable<void> Connection::run() {
  co_await read_lines();
  end_lines();
  if (session_) co_await answer_rest();
  if (session_ || hello_refused_) co_await linger();
  boost::system::error_code ignored;
  socket_.close(ignored);
}

asio::awaitable<void> Connection::read_lines() {
  Outcome outcome = Outcome::drained;
  while (!done_reading()) {
    if (outcome == Outcome::drained) {
      co_await wait_readable();
    } else {
      co_await let_others_go();
    }
    const ReadGate::Grant grant = co_await wait_for_room();
    if (done_reading()) co_return;

    const std::uint64_t before = bytes_read_;
    outcome = read(grant);
    shared_.gate.done(*this, bytes_read_ - before, splitter_.carry_bytes());
    if (outcome == Outcome::ended) co_return;
    if (outcome == Outcome::drained && stopping_) co_return;
    if (final_bytes_ >= kFinalBytesMax) co_return;
  }
}

// Level-triggered in effect: asio arms the descriptor anew for each wait, so what came before
// counts.
asio::awaitable<void> Connection::wait_readable() {
  if (stopping_ || done_reading()) co_return;
  if (splitter_.in_line()) {
    silent_since_ = Clock::now();
    shared_.watch_silence();
  }
  boost::system::error_code ignored;  // a cancel by stop() or close()
  co_await socket_.async_wait(asio::posix::descriptor_base::wait_read,
                              asio::redirect_error(asio::use_awaitable, ignored));
  silent_since_ = Clock::time_point::max();
}

asio::awaitable<void> Connection::let_others_go() {
  has_turn_ = false;
  shared_.turns.enter(*this);
  while (!has_turn_ && !done_reading()) co_await wait_woken(Clock::time_point::max());
  shared_.turns.leave(*this);
}

void Connection::take_turn() {
  has_turn_ = true;
  wake();
}

asio::awaitable<ReadGate::Grant> Connection::wait_for_room() {
  while (!done_reading()) {
    const ReadGate::Grant grant = ask_for_room();
    if (grant.bytes_max != 0) co_return grant;
    co_await wait_woken(Clock::time_point::max());
  }
  co_return ReadGate::Grant{};
}

ReadGate::Grant Connection::ask_for_room() {
  if (session_ && session_->is_crowded()) return {};
  if (policy_.on_full == OnFull::wait) return {shared_.gate.ask(*this), true};
  ReadGate::Grant grant = shared_.gate.ask_without_waiting(*this);
  if (shared_.spool_full()) grant.has_room = false;
  return grant;
}

asio::awaitable<void> Connection::wait_woken(Clock::time_point until) {
  woken_.expires_at(until);
  boost::system::error_code ignored;
  co_await woken_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
}

// Without a control buffer, so descriptors that a producer sends along are dropped by the kernel.
Connection::Outcome Connection::read(const ReadGate::Grant& grant) {
  ssize_t got = 0;
  do {
    got = ::recv(socket_.native_handle(), shared_.buffer.data(), grant.bytes_max, MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  if (got < 0) return errno == EAGAIN ? Outcome::drained : Outcome::ended;
  if (got == 0) return Outcome::ended;

  const auto bytes = static_cast<std::size_t>(got);
  bytes_read_ += bytes;
  take({shared_.buffer.data(), bytes}, grant.has_room);
  if (stopping_) {
    final_bytes_ += bytes;
    return Outcome::more;
  }
  // Less than asked for: there was no more, most likely. The wait finds out.
  return bytes == grant.bytes_max ? Outcome::more : Outcome::drained;
}

void Connection::take(std::string_view bytes, bool has_room) {
  add(shared_.counters.bytes_received, bytes.size());
  Turn turn(*this, bytes.size() + splitter_.carry_bytes(), has_room);
  splitter_.feed(bytes, [&](const Line& line) { turn.take(line); });
  turn.end();
  if (session_) send_answers();
}

void Connection::end_lines() {
  shared_.gate.leave(*this);
  const std::uint64_t line_under_way = splitter_.lines();  // the hello counted
  const bool partial = splitter_.finish();
  if (hello_refused_) return;
  if (partial) {
    add(timed_out_ ? shared_.counters.lines_timed_out : shared_.counters.lines_partial, 1);
  }
  if (session_ && timed_out_) session_->timed_out(line_under_way);
}

bool Connection::greet(std::string_view line) {
  const FirstLine first = read_first_line(line, parser_);
  if (std::holds_alternative<NoHello>(first)) return false;
  if (const auto* wrong = std::get_if<WrongHello>(&first)) {
    hello_refused_ = true;
    add(shared_.counters.hellos_refused, 1);
    shared_.reporter.hello_refused(peer_.uid, wrong->reason);
    const std::string answer = wrong_hello_answer(wrong->reason);
    // The first bytes on this socket: there is room for so few, or nobody is there.
    (void)::send(socket_.native_handle(), answer.data(), answer.size(),
                 MSG_NOSIGNAL | MSG_DONTWAIT);
    return true;
  }
  begin_session(std::get<Hello>(first));
  return true;
}

void Connection::begin_session(const Hello& hello) {
  add(shared_.counters.hellos, 1);
  const AckStage stage = shared_.facts.in_force(hello.stage);
  // Comes from the threads that make events durable, and may come when the connection has gone.
  auto on_progress = [&io = io_, weak = std::weak_ptr<Connection*>(self_)] {
    asio::post(io, [weak] {
      if (const auto self = weak.lock()) (*self)->tell_progress();
    });
  };
  session_ = std::make_unique<AckSession>(stage, std::move(on_progress), shared_.counters);

  std::optional<std::uint64_t> have;
  if (!hello.producer.empty()) {
    const spool::ProducerKey key = parser_.producer_key(hello.producer, peer_.uid);
    session_->name_producer(key, hello.first);
    // Without a spool on disk no line is durable, though this process remembers it.
    have = shared_.facts.is_durable() ? shared_.producers.have(key) : 0;
  }
  session_->say(hello_answer(shared_.facts, shared_.line_bytes_max, stage, have));
}

void Connection::tell_progress() {
  session_->follow();
  send_answers();
  wake();
}

void Connection::send_answers() {
  if (peer_gone_ || waits_writable_ || !socket_.is_open()) return;
  switch (session_->send_to(socket_.native_handle())) {
    case AckSession::Sent::everything:
      return;
    case AckSession::Sent::some:
      wait_writable();
      return;
    case AckSession::Sent::gone:
      peer_gone_ = true;
      return;
  }
}

void Connection::wait_writable() {
  waits_writable_ = true;
  socket_.async_wait(asio::posix::descriptor_base::wait_write,
                     [weak = std::weak_ptr<Connection*>(self_)](const boost::system::error_code&) {
                       const auto self = weak.lock();
                       if (!self) return;
                       (*self)->waits_writable_ = false;
                       (*self)->send_answers();
                       (*self)->wake();
                     });
}

// A producer that has shut its writing side still reads; one that has closed its socket does not,
// and its connection is not kept for its acks. (Not by waiting for an error: bytes sent out of band
// would end that wait again and again.)
void Connection::look_for_hangup() {
  pollfd polled{socket_.native_handle(), 0, 0};
  if (::poll(&polled, 1, 0) > 0 && (polled.revents & (POLLHUP | POLLERR)) != 0) peer_gone_ = true;
}

asio::awaitable<void> Connection::answer_rest() {
  tell_progress();
  look_for_hangup();
  while (!closing_ && !peer_gone_ && !session_->is_done()) {
    co_await wait_woken(Clock::now() + kHangupPeriod);
    look_for_hangup();
  }
  if (session_->is_done()) session_->summarise();
  send_answers();
  answers_until_ = Clock::now() + answer_time();
  while (!closing_ && !peer_gone_ && session_->has_unsent() && Clock::now() < answers_until_) {
    co_await wait_woken(answers_until_);
  }
}

Clock::duration Connection::answer_time() const {
  return stopping_ ? shared_.answer_timeout / kAnswerTimeAtStop : shared_.answer_timeout;
}

// Closing a socket with bytes in it that nobody read resets the connection, and the reset may
// overtake the last answer.
asio::awaitable<void> Connection::linger() {
  ::shutdown(socket_.native_handle(), peer_.can_shut_reading ? SHUT_RDWR : SHUT_WR);
  std::size_t bytes = 0;
  const auto deadline = Clock::now() + kLingerTime;
  while (!closing_ && !peer_gone_ && bytes < kLingerBytesMax && Clock::now() < deadline) {
    const ssize_t got =
        ::recv(socket_.native_handle(), shared_.buffer.data(), shared_.buffer.size(), MSG_DONTWAIT);
    if (got > 0) {
      bytes += static_cast<std::size_t>(got);
      continue;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR)) co_return;
    wake_when_readable();
    co_await wait_woken(deadline);
  }
}

void Connection::wake_when_readable() {
  socket_.async_wait(asio::posix::descriptor_base::wait_read,
                     [weak = std::weak_ptr<Connection*>(self_)](const boost::system::error_code&) {
                       if (const auto self = weak.lock()) (*self)->wake();
                     });
}

void Connection::stop() {
  stopping_ = true;
  if (peer_.can_shut_reading) ::shutdown(socket_.native_handle(), SHUT_RD);
  answers_until_ = std::min(answers_until_, Clock::now() + answer_time());
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
  boost::system::error_code ignored;
  socket_.cancel(ignored);
  return false;
}

void Connection::wake() {
  woken_.cancel();
}

}  // namespace sluice::ingest
