// One poll() loop over the socket and the input. Waiting for room in the socket, for acks and for
// input is the same wait, so that none of them can block another.
#include "daemon/ack_client.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "daemon/unix_address.hpp"

namespace sluice::daemon {

namespace {

using std::chrono::milliseconds;

constexpr milliseconds kTick{200};
constexpr milliseconds kPauseMin{20};
constexpr milliseconds kPauseMax{1'000};

}  // namespace

AckClient::AckClient(AckClientOptions options, LineWindow& window, LineReader& input,
                     AckClientReporter& reporter)
    : options_(std::move(options)),
      window_(window),
      input_(input),
      reporter_(reporter),
      pause_(kPauseMin) {}

AckClientEnd AckClient::run() {
  last_progress_ = Clock::now();
  for (;;) {
    const int fd = connect_unix(options_.socket);
    Turn end = Turn::lost;
    if (fd < 0) {
      reason_ = std::strerror(errno);
    } else {
      end = converse(fd);
      ::close(fd);
    }
    if (end == Turn::finished) return AckClientEnd::done;
    if (end == Turn::rejected) return AckClientEnd::rejected;
    if (end == Turn::stalled) return AckClientEnd::stalled;
    if (end == Turn::again) continue;
    const auto left = std::chrono::duration_cast<milliseconds>(options_.retry_for -
                                                               (Clock::now() - last_progress_));
    const bool no_room = end == Turn::no_room;
    if (left <= milliseconds{0}) return no_room ? AckClientEnd::no_room : AckClientEnd::unavailable;
    if (no_room) {
      reporter_.no_room(left);
    } else {
      reporter_.away(reason_, left);
    }
    std::this_thread::sleep_for(std::min(pause_, left));
    pause_ = std::min(pause_ * 2, kPauseMax);
  }
}

AckClient::Turn AckClient::converse(int fd) {
  Connection connection{fd, {}};
  offset_ = window_.acked();
  window_.rewind();
  const std::uint64_t acked_before = window_.acked();
  const std::string hello = hello_line("durable", options_.producer, offset_ + 1);
  // A fresh socket's buffer holds a hello whole.
  if (::send(fd, hello.data(), hello.size(), MSG_NOSIGNAL) < 0) {
    reason_ = std::strerror(errno);
    return Turn::lost;
  }
  Turn result = Turn::more;
  while (result == Turn::more) result = turn(connection);
  // A daemon that was there for long may be away for as long as one that was never there.
  const bool was_there =
      connection.greeted && Clock::now() - connection.opened > options_.retry_for;
  if (was_there || window_.acked() > acked_before) last_progress_ = Clock::now();
  return result;
}

AckClient::Turn AckClient::turn(Connection& connection) {
  const bool may_send = connection.greeted && !connection.write_ended;
  const bool has_lines = may_send && !window_.unsent().empty();
  pollfd polled[2] = {{connection.fd, static_cast<short>(has_lines ? POLLIN | POLLOUT : POLLIN), 0},
                      {may_send && wants_input() ? input_.descriptor() : -1, POLLIN, 0}};
  if (::poll(polled, 2, static_cast<int>(kTick.count())) < 0 && errno != EINTR) {
    reason_ = std::strerror(errno);
    return Turn::lost;
  }
  reporter_.tick();
  if (polled[0].revents & (POLLIN | POLLHUP | POLLERR)) {
    const Turn result = receive(connection);
    if (result != Turn::more) return result;
  }
  const Turn late = look_at_clock(connection);
  if (late != Turn::more) return late;
  if (polled[1].revents != 0) read_input();
  if (polled[0].revents & POLLOUT) send_lines(connection);
  if (may_send && nothing_more_comes()) {
    ::shutdown(connection.fd, SHUT_WR);
    connection.write_ended = true;
  }
  return Turn::more;
}

// A listener that waits for room does not read, and says nothing; neither does a daemon that hangs.
AckClient::Turn AckClient::look_at_clock(Connection& connection) {
  const Clock::time_point now = Clock::now();
  if (!connection.greeted) {
    if (now - connection.opened <= options_.retry_for) return Turn::more;
    reason_ = "something listens there and does not answer";
    return Turn::lost;
  }
  const bool has_all = window_.all_acked();
  if (has_all && !connection.write_ended) connection.moved = now;
  if (now - connection.moved <= options_.retry_for) return Turn::more;
  return has_all && nothing_more_comes() ? Turn::finished : Turn::stalled;
}

bool AckClient::wants_input() const {
  return !input_.ended() && window_.has_room();
}

bool AckClient::nothing_more_comes() const {
  return input_.ended() && window_.unsent().empty();
}

void AckClient::read_input() {
  if (const auto bytes = input_.read()) window_.append(*bytes);
}

void AckClient::send_lines(Connection& connection) {
  const std::string_view bytes = window_.unsent();
  const ssize_t sent =
      ::send(connection.fd, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  if (sent >= 0) {
    window_.sent(static_cast<std::size_t>(sent));
  } else if (errno != EAGAIN && errno != EINTR) {
    // The last answers may still be there to be read.
    connection.write_ended = true;
  }
}

AckClient::Turn AckClient::receive(Connection& connection) {
  char buffer[16 * 1024];
  const ssize_t got = ::recv(connection.fd, buffer, sizeof buffer, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return Turn::more;
  if (got <= 0) {
    if (connection.greeted && nothing_more_comes() && window_.all_acked()) return Turn::finished;
    reason_ = got < 0              ? std::strerror(errno)
              : connection.greeted ? "it closed the connection"
                                   : "it closed the connection without an answer";
    return Turn::lost;
  }
  connection.received.append(buffer, static_cast<std::size_t>(got));
  std::size_t begin = 0;
  for (std::size_t newline; (newline = connection.received.find('\n', begin)) != std::string::npos;
       begin = newline + 1) {
    const auto answer =
        parse_answer(std::string_view(connection.received).substr(begin, newline - begin));
    const Turn result = answer ? handle(connection, *answer) : Turn::more;
    if (result != Turn::more) return result;
  }
  connection.received.erase(0, begin);
  return Turn::more;
}

AckClient::Turn AckClient::handle(Connection& connection, const AnswerLine& answer) {
  if (!connection.greeted) return greet(connection, answer);
  if (answer.nack && answer.retry) {
    reason_ = "it gave up a line: " + answer.code;
    return answer.code == "full" ? Turn::no_room : Turn::lost;
  }
  if (answer.nack) {
    const std::uint64_t line = offset_ + *answer.nack;
    // What is acked is not sent again, so that it is not refused again either.
    if (line <= window_.acked() || refused_.insert(line).second) {
      reporter_.refused(line, answer.code);
    }
  }
  if (answer.nacks_unsent) reporter_.refused_unnamed(*answer.nacks_unsent);
  if (answer.ack) acked(connection, offset_ + *answer.ack);
  if (answer.done) acked(connection, offset_ + *answer.done);
  return Turn::more;
}

AckClient::Turn AckClient::greet(Connection& connection, const AnswerLine& answer) {
  if (!answer.error.empty()) {
    reason_ = answer.error;
    return Turn::rejected;
  }
  if (!answer.sluice) {
    reason_ = "it does not answer as a daemon with acks does";
    return Turn::rejected;
  }
  const std::uint64_t have = answer.have.value_or(0);
  if (window_.last_line() == 0 && have > 0) {
    // Another run sent these. Numbers follow the hello's, so that the next needs a hello of its
    // own.
    window_.start_after(have);
    input_.skip_lines(have);
    reporter_.found(have);
    return Turn::again;
  }
  connection.greeted = true;
  connection.moved = Clock::now();
  if (answer.line_bytes_max) input_.set_line_bytes_max(*answer.line_bytes_max);
  reporter_.greeted(answer);
  return Turn::more;
}

void AckClient::acked(Connection& connection, std::uint64_t line) {
  if (line <= window_.acked()) return;
  window_.acked(line);
  last_progress_ = Clock::now();
  connection.moved = last_progress_;
  pause_ = kPauseMin;
  refused_.erase(refused_.begin(), refused_.upper_bound(window_.acked()));
}

}  // namespace sluice::daemon
