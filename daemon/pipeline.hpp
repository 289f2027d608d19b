// The daemon's stages on their threads: ingest reads and parses, the journal orders, the sink
// drives every lane. The one place that knows all of them.
#pragma once

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "config/settings.hpp"
#include "daemon/metrics.hpp"
#include "daemon/sd_notify.hpp"
#include "daemon/wake_event.hpp"
#include "ingest/commit_watch.hpp"
#include "ingest/event_parser.hpp"
#include "ingest/event_queue.hpp"
#include "ingest/ingest_counters.hpp"
#include "ingest/journal.hpp"
#include "ingest/listener.hpp"
#include "sink/breaker.hpp"
#include "sink/lane.hpp"
#include "spool/memory_spool.hpp"
#include "spool/producer_table.hpp"

namespace sluice::daemon {

// Threads: one owner's, but for the functions that say otherwise.
class Pipeline final {
 public:
  // The sockets are taken over. `on_failure` is called, from whichever thread it hit, when a stage
  // cannot go on; the process should end then. The reporters outlive the pipeline.
  Pipeline(const config::Settings& settings, std::vector<ingest::ListeningSocket> sockets,
           sink::LaneReporter& lane_reporter, ingest::ListenerReporter& listener_reporter,
           std::function<void(const std::exception&)> on_failure);
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;
  // Ends the threads where they are.
  ~Pipeline();

  void start();

  // Stops accepting, handles what producers have written so far and waits until all of it is
  // committed, or until `timeout` has passed or cut_short() is called. Returns the events that were
  // accepted and not committed: they are lost with the process.
  [[nodiscard]] std::uint64_t drain(std::chrono::milliseconds timeout);
  // Thread: any.
  void cut_short();

  // Accepted and neither committed nor dropped as duplicates. Thread: any.
  [[nodiscard]] std::uint64_t events_in_memory() const;
  // Why no event could be taken now; empty: all is well. Thread: any.
  [[nodiscard]] std::string why_not_ready() const;
  // For a Metrics or a ProgressWatch; callable from any thread while the pipeline lives.
  [[nodiscard]] const ingest::IngestCounters& ingest_counters() const { return counters_; }
  [[nodiscard]] MetricsGauges gauges() const;
  [[nodiscard]] std::vector<WatchedStage> watched_stages() const;

 private:
  struct LaneParts;

  void run_guarded(const std::function<void()>& loop);
  void run_ingest();
  void run_journal();
  void run_sink();
  void sleep_until_sink_work(const std::vector<sink::Lane::Wait>& waits);
  void stop_threads();

  const config::Settings settings_;
  const std::function<void(const std::exception&)> on_failure_;

  WakeEvent journal_bell_;  // the queue has a chunk, or a lane has room
  WakeEvent sink_bell_;     // a lane has a block

  // In the order in which an event meets them; chunks give their bytes back to the budget, so it
  // lives longest. The listener's io outlives every chunk, as it hears of that.
  ingest::IngestCounters counters_;
  boost::asio::io_context ingest_io_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> ingest_work_;
  spool::ByteBudget budget_;
  spool::MemorySpool spool_;
  ingest::EventQueue queue_;
  ingest::EventParser parser_;
  ingest::DedupeWindow dedupe_;
  ingest::IdGenerator ids_;
  spool::ProducerTable producers_;
  ingest::CommitWatch commits_;
  ingest::Journal journal_;
  sink::Breaker breaker_;
  std::vector<std::unique_ptr<LaneParts>> lanes_;
  std::unique_ptr<ingest::Listener> listener_;

  // Publish nothing but themselves.
  std::atomic<bool> draining_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> accepting_{false};
  std::atomic<std::uint64_t> ingest_turns_{0};
  std::atomic<std::uint64_t> journal_turns_{0};
  std::atomic<std::uint64_t> sink_turns_{0};

  std::mutex drain_mutex_;
  std::condition_variable drain_changed_;  // with drain_mutex_
  bool listener_stopped_ = false;          // guarded by drain_mutex_
  bool cut_short_ = false;                 // guarded by drain_mutex_

  std::thread ingest_thread_;
  std::thread journal_thread_;
  std::thread sink_thread_;
};

}  // namespace sluice::daemon
