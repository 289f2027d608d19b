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
#include <optional>
#include <thread>
#include <vector>

#include "config/settings.hpp"
#include "daemon/event_sockets.hpp"
#include "daemon/event_spool.hpp"
#include "daemon/metrics.hpp"
#include "daemon/sd_notify.hpp"
#include "daemon/spool_metrics.hpp"
#include "daemon/wake_event.hpp"
#include "ingest/commit_watch.hpp"
#include "ingest/event_parser.hpp"
#include "ingest/event_queue.hpp"
#include "ingest/ingest_counters.hpp"
#include "ingest/journal.hpp"
#include "ingest/listener.hpp"
#include "sink/breaker.hpp"
#include "sink/lane.hpp"
#include "sink/redelivery_reporter.hpp"
#include "spool/producer_table.hpp"
#include "spool/reject_log.hpp"

namespace sluice::daemon {

// Who hears of what the stages do. All outlive the pipeline.
struct PipelineReporters {
  sink::LaneReporter& lanes;
  sink::RedeliveryReporter& redelivery;
  ingest::ListenerReporter& listener;
  spool::SpoolReporter& spool;
  SpoolMetrics& spool_metrics;
  // See spool::RejectLogOptions::on_full.
  std::function<void(bool full)> rejects_full = [](bool) {};
};

// What drain() leaves.
struct Undelivered {
  std::uint64_t in_memory = 0;  // lost with the process
  std::uint64_t in_spool = 0;   // on disk: the next process delivers them
};

// Threads: one owner's, but for the functions that say otherwise.
class Pipeline final {
 public:
  // `disk`: of the spool's directory, which is locked; none for a spool in memory. What it holds is
  // recovered here; throws spool::NewerFormat, spool::SpoolUnusable. `on_failure` is called, from
  // whichever thread it hit, when a stage cannot go on; the process should end then.
  Pipeline(const config::Settings& settings, spool::Disk* disk, const PipelineReporters& reporters,
           std::function<void(const std::exception&)> on_failure);
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;
  // Ends the threads where they are.
  ~Pipeline();

  // Takes the sockets over and starts the threads. Once.
  void start(std::vector<EventSocket> sockets);

  // Stops accepting, handles what producers have written so far and waits until all of it is
  // committed, or until `timeout` has passed or cut_short() is called. Then what is still in memory
  // goes to the spool on disk, if there is one, and its producers have their last acks.
  // REQUIRES: start() was called.
  [[nodiscard]] Undelivered drain(std::chrono::milliseconds timeout);
  // Thread: any.
  void cut_short();

  // Accepted, neither committed nor dropped as duplicates, and not on disk. Thread: any.
  [[nodiscard]] std::uint64_t events_in_memory() const;
  // On disk and not yet committed. Thread: any.
  [[nodiscard]] std::uint64_t events_in_spool() const;
  // Why no event could be taken now; empty: all is well. Thread: any.
  [[nodiscard]] std::string why_not_ready() const;
  // For a Metrics or a ProgressWatch; callable from any thread while the pipeline lives.
  [[nodiscard]] const ingest::IngestCounters& ingest_counters() const { return counters_; }
  [[nodiscard]] MetricsGauges gauges() const;
  [[nodiscard]] AsideNumbers aside_numbers() const;
  [[nodiscard]] std::vector<WatchedStage> watched_stages() const;

 private:
  struct LaneParts;
  struct AsideParts;

  void restore_window();
  void make_listener(std::vector<EventSocket> sockets);
  [[nodiscard]] ingest::ListenerPolicy policy_of(const config::Settings::Listener& listener);
  [[nodiscard]] std::uint64_t events_in_queue() const;
  void rescue_to_spool(std::unique_lock<std::mutex>& lock);
  void run_guarded(const std::function<void()>& loop);
  void run_ingest();
  void run_journal();
  void run_sink();
  [[nodiscard]] sink::Lane::Wait tend_aside(sink::Clock::time_point now);
  void sleep_until_sink_work(const std::vector<sink::Lane::Wait>& waits);
  void stop_threads();

  const config::Settings settings_;
  ingest::ListenerReporter& listener_reporter_;
  const std::function<void(const std::exception&)> on_failure_;

  WakeEvent journal_bell_;  // the queue has a chunk, or a lane has room
  WakeEvent sink_bell_;     // a lane has a block

  // In the order in which an event meets them; chunks give their bytes back to the budget, so it
  // lives longest. The listener's io outlives every chunk, as it hears of that.
  ingest::IngestCounters counters_;
  boost::asio::io_context ingest_io_;
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> ingest_work_;
  spool::ByteBudget budget_;
  spool::ProducerTable producers_;
  ingest::CommitWatch commits_;
  EventSpool spool_;
  ingest::EventQueue queue_;
  const std::unique_ptr<ingest::Redactor> redactor_;  // none: nothing is redacted
  const ingest::ParserOptions parser_options_;
  std::optional<spool::RejectLog> rejects_;  // none without a spool on disk
  ingest::EventParser parser_;
  std::vector<std::unique_ptr<ingest::EventParser>> other_parsers_;  // of other default types
  ingest::DedupeWindow dedupe_;
  ingest::IdGenerator ids_;
  ingest::Journal journal_;
  const std::shared_ptr<sink::RouteBrakes> brakes_ = std::make_shared<sink::RouteBrakes>();
  // None without a spool on disk: refused rows hold the lane.
  std::unique_ptr<AsideParts> aside_;
  sink::Breaker breaker_;
  std::vector<std::unique_ptr<LaneParts>> lanes_;
  std::unique_ptr<ingest::Listener> listener_;

  // Publish nothing but themselves.
  std::atomic<bool> draining_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> accepting_{false};
  std::atomic<bool> spool_full_{false};  // as the journal's last turn found it
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
