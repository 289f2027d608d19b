#include "daemon/pipeline.hpp"

#include <poll.h>
#include <pthread.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <random>
#include <system_error>
#include <utility>

#include "daemon/aside_events.hpp"
#include "daemon/host_name.hpp"
#include "daemon/parser_settings.hpp"
#include "daemon/redaction.hpp"
#include "daemon/route_list.hpp"
#include "ingest/aside_watch.hpp"
#include "sink/postgres_database.hpp"
#include "sink/redelivery.hpp"
#include "spool/aside_log.hpp"

namespace sluice::daemon {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;

// Idle threads look around this often: the journal lets go old dedupe keys, and the watchdog sees
// that both are alive.
constexpr milliseconds kIdleTurn{1'000};
// What the daemon has open when nobody is connected, with some to spare: sockets, event loops,
// files of the spool and of set-aside events, a few scrapes; and for each lane its connection and
// its segment's files.
constexpr std::size_t kOwnDescriptors = 32;
constexpr std::size_t kLaneDescriptors = 6;
// How often the files of set-aside events are looked after.
constexpr milliseconds kTendAside{1'000};
// How long drain() lets the disk take what is in memory when the time for Postgres is over.
constexpr milliseconds kSpoolPatience{3'000};

std::uint64_t random_seed() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

std::int64_t unix_now_us() {
  return duration_cast<std::chrono::microseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

spool::SpoolTime journal_now() {
  return {unix_now_us(),
          duration_cast<milliseconds>(std::chrono::steady_clock::now().time_since_epoch()).count()};
}

// Until the journal's next turn, if nothing rings before.
milliseconds time_left(const ingest::Journal::Turn& turn) {
  if (turn.result != ingest::Journal::Result::gathering) return kIdleTurn;
  return std::clamp(milliseconds(turn.until_ms - journal_now().steady_ms), milliseconds(0),
                    kIdleTurn);
}

ingest::OnFull on_full_of(const std::string& word) {
  if (word == "reject") return ingest::OnFull::reject;
  return word == "drop" ? ingest::OnFull::drop : ingest::OnFull::wait;
}

sink::LaneOptions lane_options(const config::Settings& settings, std::size_t index,
                               spool::AsideWriter* aside,
                               std::shared_ptr<sink::RouteBrakes> brakes) {
  sink::LaneOptions options;
  options.index = index;
  options.batch_rows_max = settings.postgres.batch_rows_max;
  options.batch_bytes_max = settings.postgres.batch_bytes_max;
  options.batch_delay = settings.postgres.batch_delay;
  options.seed = random_seed();
  options.unix_now_us = unix_now_us;
  options.aside = aside;
  options.parent_wait = settings.postgres.parent_wait;
  options.brakes = std::move(brakes);
  return options;
}

spool::AsideLogOptions aside_options(const config::Settings& settings) {
  spool::AsideLogOptions options;
  options.sync = settings.spool.durability == "power";
  options.bytes_max = settings.spool.aside_bytes_max;
  options.retain_time = duration_cast<std::chrono::seconds>(settings.spool.retain_time);
  options.steady_now_s = [] {
    return duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
  };
  return options;
}

sink::RedeliveryOptions redelivery_options(const config::Settings& settings,
                                           std::shared_ptr<sink::RouteBrakes> brakes) {
  sink::RedeliveryOptions options;
  options.brakes = std::move(brakes);
  options.parent_wait = settings.postgres.parent_wait;
  options.seed = random_seed();
  options.unix_now_us = unix_now_us;
  return options;
}

ingest::ListenerOptions listener_options(const config::Settings& settings) {
  ingest::ListenerOptions options;
  options.line_bytes_max = settings.ingest.line_bytes_max;
  options.connections_max = settings.ingest.connections_max;
  options.connections_per_uid_max = settings.ingest.connections_per_uid_max;
  options.descriptors_kept = kOwnDescriptors + kLaneDescriptors * settings.postgres.lanes;
  options.facts.durability = settings.spool.durability;
  options.facts.dedupe_window = duration_cast<std::chrono::seconds>(settings.dedupe.window);
  options.facts.instance = host_name();
  return options;
}

void name_this_thread(const char* name) {
  pthread_setname_np(pthread_self(), name);
}

}  // namespace

struct Pipeline::LaneParts {
  LaneParts(const config::Settings& settings, std::size_t index, spool::SpoolReader& reader,
            spool::AsideWriter* aside, ingest::CommitWatch& commits, sink::Breaker& breaker,
            const std::shared_ptr<sink::RouteBrakes>& brakes, sink::LaneReporter& reporter)
      : aside_watch(aside == nullptr
                        ? nullptr
                        : std::make_unique<ingest::AsideWatch>(index, *aside, commits)),
        database({settings.postgres.dsn, settings.postgres.schema, host_name()}),
        lane(lane_options(settings, index, aside_watch.get(), brakes),
             route_list(settings, host_name()), reader, database, breaker, reporter) {}

  const std::unique_ptr<ingest::AsideWatch> aside_watch;  // none without a spool on disk
  sink::PostgresDatabase database;
  sink::Lane lane;
};

// The set-aside records, and who delivers them.
struct Pipeline::AsideParts {
  AsideParts(const config::Settings& settings, spool::Disk& disk,
             const std::shared_ptr<sink::RouteBrakes>& brakes, sink::RedeliveryReporter& reporter)
      : log(aside_options(settings), disk),
        // What was to be redacted in a line was, before it was set aside.
        events(parser_options(settings, 0, nullptr)),
        database({.dsn = settings.postgres.dsn,
                  .schema = settings.postgres.schema,
                  .instance = host_name()}),
        redelivery(
            redelivery_options(settings, brakes), route_list(settings, host_name()), log,
            [this](const spool::AsideText& record, spool::Chunk& chunk) {
              return events.make(record, chunk);
            },
            database, reporter) {}

  spool::AsideLog log;
  AsideEvents events;
  sink::PostgresDatabase database;
  sink::Redelivery redelivery;
  sink::Clock::time_point tend_at{};
};

Pipeline::Pipeline(const config::Settings& settings, spool::Disk* disk,
                   const PipelineReporters& reporters,
                   std::function<void(const std::exception&)> on_failure)
    : settings_(settings),
      listener_reporter_(reporters.listener),
      on_failure_(std::move(on_failure)),
      ingest_work_(ingest_io_.get_executor()),
      budget_(settings.ingest.queue_bytes_max),
      producers_(settings.spool.producers_max),
      commits_(settings.postgres.lanes),
      spool_(settings,
             disk == nullptr ? std::nullopt
                             : std::optional<EventSpool::DiskParts>(
                                   {*disk, producers_, reporters.spool, reporters.spool_metrics}),
             {[this](spool::LaneIndex) { sink_bell_.ring(); }, [this] { journal_bell_.ring(); },
              [this](spool::LaneIndex lane, const spool::Position& upto) {
                commits_.committed(lane, upto);
              }},
             journal_now()),
      queue_([this] { journal_bell_.ring(); }),
      redactor_(make_redactor(settings)),
      parser_options_(parser_options(settings, spool_.hash_seed(), redactor_.get())),
      parser_(parser_options_, counters_),
      dedupe_({settings.dedupe.window.count(), settings.dedupe.keys_max}),
      ids_(random_seed()),
      journal_({settings.spool.sync_delay},
               {queue_, dedupe_, ids_, spool_.writer(), producers_, commits_, counters_}) {
  if (disk != nullptr) {
    aside_ = std::make_unique<AsideParts>(settings_, *disk, brakes_, reporters.redelivery);
    spool::RejectLogOptions options;
    options.bytes_max = settings_.ingest.rejects_bytes_max;
    options.on_full = reporters.rejects_full;
    rejects_.emplace(std::move(options), *disk, spool::Uuid::random());
  }
  for (std::size_t i = 0; i < settings_.postgres.lanes; ++i) {
    lanes_.push_back(std::make_unique<LaneParts>(settings_, i, spool_.reader(i),
                                                 aside_ ? &aside_->log : nullptr, commits_,
                                                 breaker_, brakes_, reporters.lanes));
  }
  restore_window();
}

// The keys that the files of earlier runs remember, as old as they are, and where their events end.
void Pipeline::restore_window() {
  const spool::SpoolTime now = journal_now();
  const std::int64_t since_us = now.unix_us - settings_.dedupe.window.count() * 1'000;
  spool_.recovered_keys(since_us, settings_.dedupe.keys_max, [&](const spool::RememberedKey& key) {
    const std::int64_t age_ms = std::max<std::int64_t>(0, (now.unix_us - key.written_us) / 1'000);
    dedupe_.restore({key.hash[0], key.hash[1]}, age_ms, now.steady_ms);
  });
  for (spool::LaneIndex lane = 0; lane < lanes_.size(); ++lane) {
    if (const auto end = spool_.recovered_end(lane)) journal_.restore({lane, *end});
  }
}

ingest::ListenerPolicy Pipeline::policy_of(const config::Settings::Listener& listener) {
  ingest::ListenerPolicy policy;
  policy.on_full = on_full_of(listener.on_full);
  for (const std::uint64_t uid : listener.allow_uids) {
    policy.allow_uids.push_back(static_cast<std::uint32_t>(uid));
  }
  if (listener.default_type != parser_options_.default_type) {
    ingest::ParserOptions options = parser_options_;
    options.default_type = listener.default_type;
    other_parsers_.push_back(std::make_unique<ingest::EventParser>(std::move(options), counters_));
    policy.parser = other_parsers_.back().get();
  }
  return policy;
}

void Pipeline::make_listener(std::vector<EventSocket> sockets) {
  ingest::ListenerOptions options = listener_options(settings_);
  std::vector<ingest::ListeningSocket> listening;
  for (EventSocket& each : sockets) {
    options.policies.push_back(policy_of(each.listener));
    listening.push_back(std::move(each.socket));
  }
  ingest::ListenerStages stages{budget_,   parser_, queue_, counters_, listener_reporter_,
                                producers_};
  stages.rejects = rejects_ ? &*rejects_ : nullptr;
  stages.spool_full = [this] { return spool_full_.load(std::memory_order_relaxed); };
  listener_ = std::make_unique<ingest::Listener>(ingest_io_, std::move(listening),
                                                 std::move(options), stages);
}

Pipeline::~Pipeline() {
  stop_threads();
}

void Pipeline::start(std::vector<EventSocket> sockets) {
  make_listener(std::move(sockets));
  listener_->start();
  accepting_ = true;
  ingest_thread_ = std::thread([this] { run_guarded([this] { run_ingest(); }); });
  journal_thread_ = std::thread([this] { run_guarded([this] { run_journal(); }); });
  sink_thread_ = std::thread([this] { run_guarded([this] { run_sink(); }); });
}

void Pipeline::run_guarded(const std::function<void()>& loop) {
  try {
    loop();
  } catch (const std::exception& failure) {
    on_failure_(failure);
  }
}

void Pipeline::run_ingest() {
  name_this_thread("sluice-ingest");
  while (!stopping_ && ingest_io_.run_one() != 0) {
    ingest_turns_.fetch_add(1, std::memory_order_relaxed);
  }
}

void Pipeline::run_journal() {
  name_this_thread("sluice-journal");
  while (!stopping_) {
    journal_turns_.fetch_add(1, std::memory_order_relaxed);
    if (draining_) journal_.finish_soon();
    const auto turn = journal_.turn(journal_now());
    if (rejects_) rejects_->write(journal_now().steady_ms);
    spool_full_.store(
        turn.result == ingest::Journal::Result::spool_full && !spool_.why_full().empty(),
        std::memory_order_relaxed);
    if (draining_) sink_bell_.ring();  // it watches for the last event, which may be a duplicate
    if (turn.result == ingest::Journal::Result::worked) continue;
    journal_bell_.wait(time_left(turn));
  }
}

void Pipeline::run_sink() {
  name_this_thread("sluice-sink");
  std::vector<sink::Lane::Wait> waits(lanes_.size() + (aside_ ? 1 : 0));
  while (!stopping_) {
    sink_turns_.fetch_add(1, std::memory_order_relaxed);
    if (draining_) {
      for (const auto& parts : lanes_) parts->lane.finish_soon();
      if (aside_) aside_->redelivery.finish_soon();
      const std::lock_guard lock(drain_mutex_);
      drain_changed_.notify_all();
    }
    bool turn_again = false;
    for (std::size_t i = 0; i < waits.size(); ++i) {
      const auto now = sink::Clock::now();
      waits[i] = i < lanes_.size() ? lanes_[i]->lane.turn(now) : tend_aside(now);
      turn_again = turn_again || (waits[i].until && *waits[i].until <= now);
    }
    if (!turn_again) sleep_until_sink_work(waits);
  }
}

sink::Lane::Wait Pipeline::tend_aside(sink::Clock::time_point now) {
  if (now >= aside_->tend_at && !aside_->log.tend()) aside_->tend_at = now + kTendAside;
  const sink::Redelivery::Wait wait = aside_->redelivery.turn(now);
  return {wait.io, std::min(wait.until.value_or(aside_->tend_at), aside_->tend_at)};
}

void Pipeline::sleep_until_sink_work(const std::vector<sink::Lane::Wait>& waits) {
  if (!sink_bell_.about_to_sleep()) return;
  std::vector<pollfd> polled{{sink_bell_.fd(), POLLIN, 0}};
  auto until = sink::Clock::now() + kIdleTurn;
  for (const auto& wait : waits) {
    if (wait.until) until = std::min(until, *wait.until);
    if (wait.io.fd < 0) continue;
    const int events = (wait.io.read ? POLLIN : 0) | (wait.io.write ? POLLOUT : 0);
    polled.push_back({wait.io.fd, static_cast<short>(events), 0});
  }
  const auto left = std::max(std::chrono::nanoseconds(0),
                             duration_cast<std::chrono::nanoseconds>(until - sink::Clock::now()));
  const timespec timeout{left.count() / 1'000'000'000, left.count() % 1'000'000'000};
  if (ppoll(polled.data(), polled.size(), &timeout, nullptr) < 0 && errno != EINTR) {
    throw std::system_error(errno, std::generic_category(), "poll for the lanes");
  }
  sink_bell_.awake();
}

Undelivered Pipeline::drain(milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  accepting_ = false;
  boost::asio::post(ingest_io_, [this] {
    listener_->stop([this] {
      const std::lock_guard lock(drain_mutex_);
      listener_stopped_ = true;
      drain_changed_.notify_all();
    });
  });
  draining_ = true;
  journal_bell_.ring();
  sink_bell_.ring();

  std::unique_lock lock(drain_mutex_);
  drain_changed_.wait_until(lock, deadline, [this] {
    return cut_short_ || (listener_stopped_ && events_in_memory() + events_in_spool() == 0);
  });
  if (spool_.on_disk()) rescue_to_spool(lock);
  lock.unlock();
  stop_threads();
  if (rejects_) rejects_->write(journal_now().steady_ms);
  spool_.close(journal_now());
  return {events_in_memory(), events_in_spool()};
}

// The time for Postgres is over; the disk gets a little more.
void Pipeline::rescue_to_spool(std::unique_lock<std::mutex>& lock) {
  boost::asio::post(ingest_io_, [this] { listener_->close_all(); });
  journal_bell_.ring();
  drain_changed_.wait_until(lock, std::chrono::steady_clock::now() + kSpoolPatience,
                            [this] { return listener_stopped_ && events_in_queue() == 0; });
}

void Pipeline::cut_short() {
  const std::lock_guard lock(drain_mutex_);
  cut_short_ = true;
  drain_changed_.notify_all();
}

void Pipeline::stop_threads() {
  stopping_ = true;
  ingest_io_.stop();
  journal_bell_.ring();
  sink_bell_.ring();
  for (std::thread* thread : {&ingest_thread_, &journal_thread_, &sink_thread_}) {
    if (thread->joinable()) thread->join();
  }
}

std::uint64_t Pipeline::events_in_queue() const {
  // In this order an event that moves on meanwhile may be counted twice, but never not at all.
  const std::uint64_t out_of_queue =
      counters_.events_journaled.load() + counters_.duplicates.load() +
      counters_.events_turned_away.load() + counters_.events_dropped.load();
  return counters_.events_accepted.load() - out_of_queue;
}

std::uint64_t Pipeline::events_in_memory() const {
  const std::uint64_t in_spool = spool_.on_disk() ? 0 : spool_.events_held();
  return events_in_queue() + in_spool;
}

std::uint64_t Pipeline::events_in_spool() const {
  return spool_.on_disk() ? spool_.events_held() : 0;
}

std::string Pipeline::why_not_ready() const {
  if (!accepting_) return "not accepting connections";
  const std::string full = spool_.why_full();
  return full.empty() ? "" : "the spool takes no events: " + full;
}

AsideNumbers Pipeline::aside_numbers() const {
  AsideNumbers numbers;
  if (!aside_) return numbers;
  const spool::AsideGauges& gauges = aside_->log.gauges();
  for (std::size_t i = 0; i < numbers.records.size(); ++i) numbers.records[i] = gauges.records[i];
  numbers.delivered = gauges.delivered;
  numbers.bytes = gauges.bytes;
  numbers.bytes_max = settings_.spool.aside_bytes_max;
  numbers.full = gauges.full;
  return numbers;
}

MetricsGauges Pipeline::gauges() const {
  MetricsGauges gauges;
  gauges.queue_bytes = [this] { return std::uint64_t{budget_.used_bytes()}; };
  gauges.queue_bytes_max = budget_.bytes_max();
  gauges.redactor = redactor_.get();
  gauges.rejects = rejects_ ? &*rejects_ : nullptr;
  gauges.rejects_bytes_max = rejects_ ? settings_.ingest.rejects_bytes_max : 0;
  gauges.spool_on_disk = spool_.on_disk();
  gauges.events_recovered = spool_.events_recovered();
  gauges.spool_bytes = [this] { return spool_.bytes(); };
  gauges.spool_bytes_max = spool_.on_disk() ? settings_.spool.bytes_max : 0;
  gauges.spool_segments = [this] { return spool_.segments(); };
  gauges.why_spool_full = [this] { return spool_.why_full(); };
  gauges.producers = [this] { return std::uint64_t{producers_.size()}; };
  gauges.events_in_spool = [this] { return spool_.events_held(); };
  gauges.oldest_event_age_seconds = [this] {
    const auto received_us = spool_.oldest_received_us();
    if (!received_us) return 0.0;
    return std::max(0.0, static_cast<double>(unix_now_us() - *received_us) / 1e6);
  };
  gauges.aside = [this] { return aside_numbers(); };
  gauges.dedupe_keys = [this] { return counters_.dedupe_keys.load(); };
  gauges.dedupe_window_seconds = [this] {
    return static_cast<double>(counters_.dedupe_window_ms.load()) / 1e3;
  };
  return gauges;
}

std::vector<WatchedStage> Pipeline::watched_stages() const {
  return {
      {"journal", [this] { return journal_turns_.load(); },
       [this] { return events_in_queue() != 0; }},
      {"sink", [this] { return sink_turns_.load(); }, [this] { return spool_.events_held() != 0; }},
  };
}

}  // namespace sluice::daemon
