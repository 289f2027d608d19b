#include "daemon/serve.hpp"

#include <sys/resource.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "daemon/event_sockets.hpp"
#include "daemon/exit_code.hpp"
#include "daemon/file_lock.hpp"
#include "daemon/http_server.hpp"
#include "daemon/lane_log.hpp"
#include "daemon/lane_metrics.hpp"
#include "daemon/lane_reporters.hpp"
#include "daemon/left_segments.hpp"
#include "daemon/listener_log.hpp"
#include "daemon/log.hpp"
#include "daemon/metrics.hpp"
#include "daemon/pipeline.hpp"
#include "daemon/redaction.hpp"
#include "daemon/redelivery_report.hpp"
#include "daemon/route_list.hpp"
#include "daemon/sd_notify.hpp"
#include "daemon/spool_directory.hpp"
#include "daemon/spool_log.hpp"
#include "daemon/spool_metrics.hpp"
#include "daemon/version.hpp"
#include "ingest/socket_address.hpp"
#include "sink/postgres_session.hpp"

namespace sluice::daemon {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// How often the watchdog looks when systemd does not ask for it: for /healthz.
constexpr milliseconds kLookInterval{5'000};
// A stage that has work and does not move for so long is stuck. Both idle loops turn each second.
constexpr milliseconds kPatience{30'000};
// Signals that come so soon after the first do not mean more than it.
constexpr milliseconds kSameSignal{500};

class WrongSetting final : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

int exit_code_of(ingest::SocketError::Kind kind) {
  switch (kind) {
    case ingest::SocketError::Kind::configuration:
      return kExitConfig;
    case ingest::SocketError::Kind::in_use:
      return kExitLocked;
    case ingest::SocketError::Kind::system:
      return kExitUnavailable;
  }
  std::abort();
}

// A connection string that can never work is no reason to wait for Postgres.
void check_dsn(const config::Settings& settings) {
  const std::string problem = sink::dsn_problem(settings.postgres.dsn);
  if (problem.empty()) return;
  throw WrongSetting("postgres.dsn is no connection string: " + problem +
                     "; write it as \"host=db1 dbname=agents user=sluice\", or as a URI");
}

// The daemon while it runs: the pipeline has its own threads; signals, pages and the watchdog are
// served by the thread that calls run().
class Server {
 public:
  Server(const config::Settings& settings, Log& log)
      : settings_(settings),
        log_(log),
        inherited_(take_inherited_sockets()),
        spool_directory_(settings.spool.on_disk()
                             ? std::make_unique<SpoolDirectory>(settings.spool.dir)
                             : nullptr),
        socket_locks_(lock_event_sockets(settings, inherited_)),
        pages_(settings.metrics.listen.empty()
                   ? nullptr
                   : std::make_unique<HttpServer>(io_, settings.metrics.listen, pages())),
        lane_metrics_(settings.postgres.lanes),
        lane_log_(log, settings.postgres.lanes),
        lane_reporters_({lane_metrics_, lane_log_}),
        redelivery_report_(log),
        listener_log_(log),
        spool_log_(log, spool_metrics_),
        pipeline_(settings, spool_directory_ ? &spool_directory_->disk() : nullptr,
                  {lane_reporters_, redelivery_report_, listener_log_, spool_log_, spool_metrics_,
                   [this](bool full) { tell_rejects_full(full); }},
                  [this](const std::exception& failure) { stage_failed(failure); }),
        metrics_(kVersion, pipeline_.ingest_counters(), lane_metrics_, spool_metrics_, gauges()),
        watch_(pipeline_.watched_stages(), kPatience),
        signals_(io_, SIGTERM, SIGINT, SIGHUP),
        look_timer_(io_) {}

  ~Server() {
    if (drain_thread_.joinable()) drain_thread_.join();
  }

  int run() {
    if (pages_) log_.info("serving metrics", {{"address", pages_->address()}});
    wait_for_signal();
    look();
    tell_recovered();
    pipeline_.start(announced(open_event_sockets(settings_, inherited_)));
    manager_.ready(status_line());
    io_.run();
    return exit_code_;
  }

 private:
  std::vector<EventSocket> announced(std::vector<EventSocket> sockets) {
    for (const EventSocket& each : sockets) {
      log_.info("taking events",
                {{"socket", each.socket.name()}, {"on_full", each.listener.on_full}});
    }
    return sockets;
  }

  void tell_recovered() {
    if (!spool_directory_) return tell_left_behind();
    log_.info("the spool is open", {{"dir", settings_.spool.dir},
                                    {"durability", settings_.spool.durability},
                                    {"events", pipeline_.events_in_spool()}});
  }

  // Where durability was changed to "memory", what waits in the directory is acked, and nobody
  // looks at it any more.
  void tell_left_behind() {
    try {
      const auto left = left_segments(settings_.spool.dir);
      if (left.empty()) return;
      log_.error(
          "spool.dir has segments of an earlier run, with events that Postgres may not have: with "
          "durability \"memory\" nobody delivers them; start once with \"process\" or \"power\" "
          "until they are delivered (`sluice check` says whether they are)",
          {{"dir", settings_.spool.dir}, {"segments", std::uint64_t{left.size()}}});
    } catch (const std::system_error& error) {
      log_.warning("cannot see whether an earlier run left events in spool.dir",
                   {{"dir", settings_.spool.dir}, {"error", error.what()}});
    }
  }

  MetricsGauges gauges() {
    MetricsGauges gauges = pipeline_.gauges();
    gauges.redelivery = [this] {
      return RedeliveryNumbers{redelivery_report_.events_delivered(),
                               redelivery_report_.events_died(), redelivery_report_.events_lost()};
    };
    return gauges;
  }

  HttpPages pages() {
    HttpPages pages;
    pages.metrics = [this] { return metrics_.text(); };
    pages.unhealthy = [this] { return watch_.stuck(); };
    pages.unready = [this] {
      const std::string reason = pipeline_.why_not_ready();
      return reason.empty() ? std::vector<std::string>{} : std::vector<std::string>{reason};
    };
    pages.status = [this] { return status_line() + "\n"; };
    return pages;
  }

  // Called on the journal's thread.
  void tell_rejects_full(bool full) {
    if (!full) return log_.info("there is room for refused lines among the dead letters again");
    log_.warning(
        "ingest.rejects_bytes_max is reached: further refused lines are only counted, until files "
        "of aside/rejects-*.ndjson are taken away",
        {{"bytes", settings_.ingest.rejects_bytes_max}});
  }

  std::string status_line() const {
    return std::to_string(lane_metrics_.events_committed()) + " events committed, " +
           std::to_string(pipeline_.events_in_memory()) + " in memory" + spool_text() + held_text();
  }

  std::string spool_text() const {
    if (!spool_directory_) return "";
    return ", " + std::to_string(pipeline_.events_in_spool()) + " in the spool";
  }

  std::string held_text() const {
    const std::size_t held = lane_metrics_.lanes_in(sink::LaneState::held);
    if (held == 0) return "";
    return "; " + std::to_string(held) + " of " + std::to_string(settings_.postgres.lanes) +
           " lanes are held: the log says what to mend";
  }

  void wait_for_signal() {
    signals_.async_wait([this](const boost::system::error_code& error, int signal) {
      if (error) return;
      wait_for_signal();
      if (signal == SIGHUP) {
        log_.warning("SIGHUP: this version reads its settings only at start; restart it instead");
      } else if (drain_thread_.joinable() && Clock::now() < drain_began_ + kSameSignal) {
        // Who signals a process and its group sends two: one wish.
      } else if (drain_thread_.joinable()) {
        log_.warning("a second signal: not waiting for Postgres any longer");
        pipeline_.cut_short();
      } else {
        begin_drain(signal);
      }
    });
  }

  // On a thread of its own, so that probes, metrics and a second signal are served meanwhile.
  void begin_drain(int signal) {
    const milliseconds timeout = settings_.postgres.drain_timeout;
    drain_began_ = Clock::now();
    log_.info("stopping: no more connections, committing what was taken",
              {{"signal", signal}, {"deadline_ms", timeout.count()}});
    manager_.stopping("committing what was taken", timeout + milliseconds(5'000));
    drain_thread_ = std::thread([this, timeout] {
      const Undelivered left = pipeline_.drain(timeout);
      boost::asio::post(io_, [this, left] { drained(left); });
    });
  }

  void drained(const Undelivered& left) {
    const std::uint64_t committed = lane_metrics_.events_committed();
    if (left.in_memory != 0) {
      log_.error(spool_directory_
                     ? "stopped with events that neither Postgres nor the spool took in time; they "
                       "were only in memory and are lost"
                     : "stopped with events that Postgres did not take in time; they were only in "
                       "memory and are lost",
                 {{"lost", left.in_memory}, {"in_spool", left.in_spool}, {"committed", committed}});
      exit_code_ = kExitUnavailable;
    } else if (left.in_spool != 0) {
      log_.info("stopped: what is not committed is in the spool, for the next start",
                {{"in_spool", left.in_spool}, {"committed", committed}});
    } else {
      log_.info("stopped: every accepted event is committed", {{"committed", committed}});
    }
    io_.stop();
  }

  // Called on a stage's thread. Nothing is drained: what the stage holds cannot be trusted.
  void stage_failed(const std::exception& failure) {
    log_.error("a stage failed; ending the process", {{"error", failure.what()}});
    std::_Exit(kExitBug);
  }

  void look() {
    watch_.look(ProgressWatch::Clock::now());
    for (const std::string& stage : watch_.stuck()) {
      log_.repeated("stuck " + stage, LogLevel::error, "a stage has work and does not move",
                    {{"stage", stage}});
    }
    tell_set_aside();
    if (watch_.stuck().empty()) manager_.alive();
    manager_.status(status_line());
    const auto asked = ServiceManager::watchdog_interval();
    look_timer_.expires_after(asked ? std::min(*asked / 2, kLookInterval) : kLookInterval);
    look_timer_.async_wait([this](const boost::system::error_code& error) {
      if (!error) look();
    });
  }

  void tell_set_aside() {
    const AsideNumbers aside = pipeline_.aside_numbers();
    if (!aside.nearly_full()) return;
    log_.repeated("set aside full", LogLevel::warning,
                  aside.full ? "there is no room for one more set-aside event: its segment waits"
                             : "the set-aside events have nearly used up their room",
                  {{"bytes", aside.bytes},
                   {"bytes_max", aside.bytes_max},
                   {"mend",
                    "`sluice dead list` shows them; retry or purge them, or raise "
                    "spool.aside_bytes_max"}});
  }

  const config::Settings& settings_;
  Log& log_;
  const std::vector<InheritedSocket> inherited_;
  // The locks come before anything else is opened, so that a second daemon changes nothing.
  const std::unique_ptr<SpoolDirectory> spool_directory_;
  const std::vector<std::unique_ptr<FileLock>> socket_locks_;
  boost::asio::io_context io_{1};
  // Before the sockets: a start that fails here has taken no event.
  const std::unique_ptr<HttpServer> pages_;
  LaneMetrics lane_metrics_;
  LaneLog lane_log_;
  LaneReporters lane_reporters_;
  RedeliveryReport redelivery_report_;
  ListenerLog listener_log_;
  SpoolMetrics spool_metrics_;
  SpoolLog spool_log_;
  Pipeline pipeline_;
  Metrics metrics_;
  ProgressWatch watch_;
  ServiceManager manager_;
  boost::asio::signal_set signals_;
  boost::asio::steady_timer look_timer_;
  std::thread drain_thread_;
  Clock::time_point drain_began_{};
  int exit_code_ = kExitOk;
};

// As many connections as the system lets this process have: nothing here uses select(), for which
// the usual limit is as low as it is.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int run_serve(const config::Settings& settings) {
  std::signal(SIGPIPE, SIG_IGN);
  raise_descriptor_limit();
  LogOptions log_options;
  log_options.level = log_level(settings.log.level);
  log_options.format = log_format(settings.log.format);
  Log log(std::move(log_options));
  try {
    check_dsn(settings);
    if (!takes_every_type(settings))
      log.warning("no route takes events of every type: those that none matches are refused",
                  {{"next", "end the configuration with a [[route]] for \"*\""}});
    return Server(settings, log).run();
  } catch (const LockedError& error) {
    log.error(error.what());
    return kExitLocked;
  } catch (const ingest::SocketError& error) {
    log.error(error.what());
    return exit_code_of(error.kind());
  } catch (const SpoolDirectoryError& error) {
    log.error(error.what());
    return error.kind() == SpoolDirectoryError::Kind::configuration ? kExitConfig
                                                                    : kExitUnavailable;
  } catch (const spool::NewerFormat& error) {
    log.error(error.what());
    return kExitConfig;
  } catch (const WrongSetting& error) {
    log.error(error.what());
    return kExitConfig;
  } catch (const SaltError& error) {
    log.error(error.what());
    return kExitConfig;
  } catch (const HttpAddressError& error) {
    log.error(error.what());
    return kExitConfig;
  } catch (const std::exception& error) {
    log.error(error.what());
    return kExitUnavailable;
  }
}

}  // namespace sluice::daemon
