// Accepts producers on several sockets and serves their connections until it is stopped.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "ingest/connection.hpp"
#include "ingest/listener_policy.hpp"
#include "ingest/listener_reporter.hpp"
#include "ingest/read_gate.hpp"
#include "ingest/socket_address.hpp"
#include "ingest/turn_line.hpp"

namespace sluice::ingest {

struct ListenerOptions {
  std::size_t line_bytes_max = 1024 * 1024;  // at most 16 MiB - 1 KiB are used
  std::size_t connections_max = 1024;
  std::size_t connections_per_uid_max = 0;  // further ones are closed at accept; 0: no bound
  // Of those that the process may open (RLIMIT_NOFILE), so many are not for connections: the
  // spool, the database and the metrics need theirs while producers take all they can get. 0: no
  // heed is taken of that.
  std::size_t descriptors_kept = 0;
  // Of the sockets, in their order; empty: all have the default one.
  std::vector<ListenerPolicy> policies;
  HelloFacts facts;
  // What all connections together may keep of lines under way, beside kCarryFloorBytes each and one
  // reserve of line_bytes_max.
  std::size_t carry_bytes_max = 8 * 1024 * 1024;
  std::chrono::milliseconds partial_line_timeout{30'000};
  // How long a producer that wants no more than its last answers may take to read them.
  std::chrono::milliseconds answer_timeout{30'000};
  std::function<std::int64_t()> now_us;  // since the Unix epoch; empty: the system's clock
};

// The stages that a listener works with. All outlive it.
struct ListenerStages {
  spool::ByteBudget& budget;  // its on_room() becomes the listener's
  EventParser& parser;
  EventQueue& queue;
  IngestCounters& counters;
  ListenerReporter& reporter;
  const spool::ProducerTable& producers;
  // Whether the spool takes nothing at the moment: then those who do not wait are turned away.
  std::function<bool()> spool_full = [] { return false; };
  // Of producers that did not ask for acks; none: such lines are only counted.
  spool::RejectLog* rejects = nullptr;
};

// Threads: all of it belongs to the thread that runs `io`, the ingest thread. Only the budget's
// on_room() may come from anywhere.
class Listener final {
 public:
  // REQUIRES: `io` outlives the listener, every chunk that is charged to the budget and every
  // chunk's ledger; the listener is destroyed when stopped(), or when `io` will not run again;
  // there are no policies or as many as sockets.
  Listener(boost::asio::io_context& io, std::vector<ListeningSocket> sockets,
           ListenerOptions options, const ListenerStages& stages);
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener();

  void start();

  // Takes the sockets' files away, accepts who stands in the backlog (but not on an adopted socket,
  // where the next process will), then lets each connection take what the kernel holds of it, as
  // room in the budget comes, and its last acks, and ends it. `on_stopped` is called from `io` when
  // the last has gone. REQUIRES: start() was called, and stop() was not.
  void stop(std::function<void()> on_stopped);
  // The deadline has passed: ends the connections that are left without reading on or waiting for
  // acks.
  void close_all();
  [[nodiscard]] bool stopped() const { return stopped_; }

  [[nodiscard]] std::size_t connections() const { return connections_.size(); }
  // What is kept of lines under way.
  [[nodiscard]] std::size_t carry_bytes() const { return gate_.carry_bytes(); }

 private:
  class Acceptor;
  enum class Accepted { connection, refused, nobody, failed };

  boost::asio::awaitable<void> accept_on(Acceptor& acceptor);
  [[nodiscard]] Accepted accept_one(Acceptor& acceptor);
  [[nodiscard]] bool refused(const ListenerPolicy& policy, std::uint32_t uid);
  [[nodiscard]] std::size_t connections_possible() const;
  [[nodiscard]] bool full();
  void serve(int fd, const Peer& peer, const ListenerPolicy& policy);
  void connection_ended(const Peer& peer);
  void watch_silence();
  void end_silent_connections();
  void check_stopped();

  boost::asio::io_context& io_;
  const ListenerOptions options_;
  const ListenerStages stages_;
  ReadGate gate_;
  TurnLine turns_;
  const std::unique_ptr<char[]> buffer_;
  ConnectionShared shared_;
  std::vector<std::unique_ptr<Acceptor>> acceptors_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Connection>> connections_;
  std::unordered_map<std::uint32_t, std::size_t> connections_of_uid_;  // of those that have any
  std::uint64_t last_connection_ = 0;
  bool full_reported_ = false;

  boost::asio::steady_timer silence_timer_;
  bool watching_silence_ = false;

  std::size_t accepting_ = 0;  // acceptors whose coroutine runs
  bool stopping_ = false;
  bool stopped_ = false;
  std::function<void()> on_stopped_;
  // Lives as long as the listener: tells a late on_room() that it has gone.
  const std::shared_ptr<Listener*> self_;
};

}  // namespace sluice::ingest
