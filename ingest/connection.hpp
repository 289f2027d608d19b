// One producer's connection: reads its socket in bounded turns, cuts lines, has them parsed into
// chunks and pushes these to the queue; and answers, if the producer's first line asks for it.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string_view>

#include "ingest/ack_session.hpp"
#include "ingest/event_parser.hpp"
#include "ingest/event_queue.hpp"
#include "ingest/hello.hpp"
#include "ingest/ingest_counters.hpp"
#include "ingest/line_splitter.hpp"
#include "ingest/listener_policy.hpp"
#include "ingest/listener_reporter.hpp"
#include "ingest/read_gate.hpp"
#include "ingest/turn_line.hpp"
#include "spool/byte_budget.hpp"
#include "spool/producer_table.hpp"
#include "spool/reject_log.hpp"

namespace sluice::ingest {

// What all connections of a listener use. Outlives them.
struct ConnectionShared {
  spool::ByteBudget& budget;
  EventParser& parser;
  EventQueue& queue;
  IngestCounters& counters;
  ListenerReporter& reporter;
  ReadGate& gate;
  TurnLine& turns;
  const spool::ProducerTable& producers;
  spool::RejectLog* rejects;  // none: lines that are refused are only counted
  std::function<bool()> spool_full;
  HelloFacts facts;
  std::span<char> buffer;  // ReadGate::kReadBytesMax bytes; nothing stays in it between turns
  std::size_t line_bytes_max;
  std::chrono::milliseconds answer_timeout;  // for a producer that does not read its last answers
  std::function<std::int64_t()> now_us;      // since the Unix epoch
  std::function<void()> watch_silence;       // somebody waits in the middle of a line
};

struct Peer {
  std::uint32_t uid = spool::kNoUid;
  std::uint64_t connection = 0;  // from 1, in the order of accepting
  // A Unix socket, which can be shut so that the producer's next write fails while what it wrote
  // before is still read.
  bool can_shut_reading = false;
};

// Thread: the ingest thread's.
class Connection final : private ReadGate::Reader, private TurnLine::Waiter {
 public:
  // Once stopping, a connection reads no more than this: more than a socket's buffer holds.
  static constexpr std::size_t kFinalBytesMax = 256 * 1024;

  // Owns `fd` from here on, which does not block. REQUIRES: policy and shared outlive it.
  Connection(boost::asio::io_context& io, int fd, const Peer& peer, const ListenerPolicy& policy,
             ConnectionShared& shared);
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() override;

  // Serves the producer until it leaves, is silent in the middle of a line for too long, or the
  // connection was stopped or closed; one that asked for acks until it has its last answers.
  // REQUIRES: the connection outlives the coroutine.
  [[nodiscard]] boost::asio::awaitable<void> run();

  // Reads what the kernel holds, waits for the last acks and ends. What the producer writes after
  // this fails.
  void stop();
  // Ends without reading on, and without waiting for acks.
  void close();
  // Ends if the producer has been silent since `since` in the middle of a line. Returns whether it
  // is worth watching further.
  bool end_if_silent(std::chrono::steady_clock::time_point since);

 private:
  enum class Outcome {
    more,     // the kernel may hold more
    drained,  // it holds nothing more
    ended,    // the producer has gone, or writes no more
  };
  class Turn;

  void wake() override;
  void take_turn() override;

  // Reading.
  boost::asio::awaitable<void> read_lines();
  [[nodiscard]] bool done_reading() const { return closing_ || timed_out_ || hello_refused_; }
  boost::asio::awaitable<void> wait_readable();
  boost::asio::awaitable<void> let_others_go();
  boost::asio::awaitable<ReadGate::Grant> wait_for_room();
  [[nodiscard]] ReadGate::Grant ask_for_room();
  boost::asio::awaitable<void> wait_woken(std::chrono::steady_clock::time_point until);
  [[nodiscard]] Outcome read(const ReadGate::Grant& grant);
  void take(std::string_view bytes, bool has_room);
  void end_lines();

  // Answering. Only with a session, but for greet().

  // Whether the connection's first line is a hello, right or wrong.
  [[nodiscard]] bool greet(std::string_view line);
  void begin_session(const Hello& hello);
  void tell_progress();
  void send_answers();
  void wait_writable();
  void look_for_hangup();
  boost::asio::awaitable<void> answer_rest();
  [[nodiscard]] std::chrono::steady_clock::duration answer_time() const;
  boost::asio::awaitable<void> linger();
  void wake_when_readable();

  boost::asio::io_context& io_;
  ConnectionShared& shared_;
  const Peer peer_;
  const ListenerPolicy& policy_;
  EventParser& parser_;
  boost::asio::posix::stream_descriptor socket_;
  boost::asio::steady_timer woken_;  // cancelled to wake
  LineSplitter splitter_;
  const std::unique_ptr<EventQueue::Producer> producer_;

  // Since when the producer has been silent in the middle of a line while it was being read; max()
  // when that is not so.
  std::chrono::steady_clock::time_point silent_since_ =
      std::chrono::steady_clock::time_point::max();
  bool timed_out_ = false;
  bool hello_refused_ = false;
  bool has_turn_ = false;
  bool stopping_ = false;
  bool closing_ = false;
  std::uint64_t bytes_read_ = 0;
  std::size_t final_bytes_ = 0;  // of them, since stop()
  // Bytes of record that 100 bytes of line came to in the last chunk: sizes the next one.
  std::size_t record_percent_ = 150;

  std::unique_ptr<AckSession> session_;  // of a producer that asked for acks
  bool waits_writable_ = false;          // send_answers() goes on when the socket takes more
  bool peer_gone_ = false;               // nobody reads answers any more
  // Nothing is left to do but to send answers, and for no longer than this.
  std::chrono::steady_clock::time_point answers_until_ =
      std::chrono::steady_clock::time_point::max();
  // Lives as long as the connection: tells a late call that it has gone.
  const std::shared_ptr<Connection*> self_;
};

}  // namespace sluice::ingest
