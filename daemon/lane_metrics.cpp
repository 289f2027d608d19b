// Counters and histograms of delivery.
#include "daemon/lane_metrics.hpp"

#include <prometheus/histogram.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <string>
#include <utility>

#include "daemon/metric_family.hpp"

namespace sluice::daemon {
namespace {

using Counter = std::atomic<std::uint64_t>;

void add(Counter& counter, std::uint64_t n) {
  counter.fetch_add(n, std::memory_order_relaxed);
}
std::uint64_t value(const Counter& counter) {
  return counter.load(std::memory_order_relaxed);
}

// Label values must be few, and a server could send any code: these classes and no other.
// "" stands for a failure of the connection itself.
constexpr std::array<std::string_view, 19> kSqlstateClasses = {
    "",   "08", "0A", "21", "22", "23", "25", "26", "28", "3D",
    "3F", "40", "42", "53", "54", "55", "57", "P0", "XX",
};
constexpr std::size_t kOtherClass = kSqlstateClasses.size();

std::size_t class_of(std::string_view sqlstate) {
  const auto* found = std::find(kSqlstateClasses.begin(), kSqlstateClasses.end(),
                                sqlstate.substr(0, std::min<std::size_t>(2, sqlstate.size())));
  return static_cast<std::size_t>(found - kSqlstateClasses.begin());
}

std::string_view class_label(std::size_t index) {
  if (index == kOtherClass) return "other";
  return kSqlstateClasses[index].empty() ? "none" : kSqlstateClasses[index];
}

// From a quiet machine's commit to an outage of a night.
const std::vector<double> kLatencySeconds = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                             0.25,  0.5,    1,     2.5,  5,     10,   30,
                                             60,    300,    900,   3600, 14400, 43200};
const std::vector<double> kStepSeconds = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                          0.25,   0.5,   1,      2.5,   5,    10,    30,   60};
const std::vector<double> kBatchRows = {1, 3, 10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000};

// prometheus::Histogram counts a value in the first bucket whose bound is not below it.
std::size_t bucket_of(const std::vector<double>& bounds, double seconds) {
  const auto found = std::lower_bound(bounds.begin(), bounds.end(), seconds);
  return static_cast<std::size_t>(found - bounds.begin());
}

double seconds_of(std::chrono::microseconds time) {
  return std::chrono::duration<double>(time).count();
}

constexpr std::array<std::pair<sink::LaneState, std::string_view>, sink::kLaneStateCount>
    kStateLabels = {{{sink::LaneState::connecting, "connecting"},
                     {sink::LaneState::idle, "idle"},
                     {sink::LaneState::sending, "sending"},
                     {sink::LaneState::waiting, "waiting"},
                     {sink::LaneState::held, "held"}}};

}  // namespace

struct LaneMetrics::Numbers {
  explicit Numbers(std::size_t lanes) : states(lanes) {}

  using ByClass = std::array<Counter, kSqlstateClasses.size() + 1>;

  std::vector<std::atomic<sink::LaneState>> states;
  Counter committed{0};
  Counter rewound{0};
  Counter lost{0};
  Counter found_committed{0};
  Counter in_table{0};
  Counter set_aside{0};
  Counter forgotten{0};
  Counter batches{0};
  Counter copy_bytes{0};
  ByClass retries{};
  ByClass holds{};
  ByClass rows_set_aside{};
  Counter commits_unknown{0};
  Counter commits_lost{0};
  prometheus::Histogram receipt_to_committed{kLatencySeconds};
  prometheus::Histogram copy_duration{kStepSeconds};
  prometheus::Histogram commit_duration{kStepSeconds};
  prometheus::Histogram batch_rows{kBatchRows};
  // Of batch_committed() alone, kept so that it allocates nothing.
  std::vector<double> latency_counts = std::vector<double>(kLatencySeconds.size() + 1);
};

LaneMetrics::LaneMetrics(std::size_t lanes, std::function<std::int64_t()> now_us)
    : now_us_(std::move(now_us)), numbers_(std::make_unique<Numbers>(lanes)) {
  for (auto& state : numbers_->states) state = sink::LaneState::connecting;
}

LaneMetrics::~LaneMetrics() = default;

std::int64_t LaneMetrics::wall_clock_us() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}

void LaneMetrics::state_changed(std::size_t lane, sink::LaneState state) {
  numbers_->states.at(lane).store(state, std::memory_order_relaxed);
}

void LaneMetrics::failed(std::size_t, std::string_view, const sink::Failure& failure,
                         std::chrono::milliseconds) {
  add(numbers_->retries[class_of(failure.sqlstate)], 1);
}

void LaneMetrics::held(std::size_t, std::string_view, const sink::Failure& failure,
                       std::chrono::milliseconds) {
  add(numbers_->holds[class_of(failure.sqlstate)], 1);
}

void LaneMetrics::recovered(std::size_t) {}

void LaneMetrics::batch_committed(std::size_t, const sink::CommittedBatch& batch) {
  Numbers& numbers = *numbers_;
  add(numbers.committed, batch.events);
  add(numbers.in_table, batch.duplicates);
  add(numbers.batches, 1);
  add(numbers.copy_bytes, batch.bytes);
  numbers.copy_duration.Observe(seconds_of(batch.copy_time));
  numbers.commit_duration.Observe(seconds_of(batch.commit_time));
  numbers.batch_rows.Observe(static_cast<double>(batch.events));

  const std::int64_t now = now_us_();
  double sum = 0;
  std::fill(numbers.latency_counts.begin(), numbers.latency_counts.end(), 0);
  for (const sink::CommittedGroup& group : batch.groups) {
    // A wall clock that was set back makes no latency below nothing.
    const double seconds =
        static_cast<double>(std::max<std::int64_t>(0, now - group.received_us)) * 1e-6;
    const auto events = static_cast<double>(group.events);
    numbers.latency_counts[bucket_of(kLatencySeconds, seconds)] += events;
    sum += seconds * events;
  }
  numbers.receipt_to_committed.ObserveMultiple(numbers.latency_counts, sum);
}

void LaneMetrics::commit_unknown(std::size_t) {
  add(numbers_->commits_unknown, 1);
}

void LaneMetrics::unknown_was_committed(std::size_t, std::uint64_t events) {
  add(numbers_->committed, events);
}

void LaneMetrics::found_committed(std::size_t, std::uint64_t events) {
  add(numbers_->found_committed, events);
}

void LaneMetrics::row_set_aside(std::size_t, const spool::Position&, const sink::Failure& failure) {
  add(numbers_->rows_set_aside[class_of(failure.sqlstate)], 1);
}

void LaneMetrics::set_aside_committed(std::size_t, std::uint64_t events) {
  add(numbers_->set_aside, events);
}

void LaneMetrics::segment_forgotten(std::size_t, const spool::Uuid&, std::uint64_t events) {
  add(numbers_->forgotten, events);
}

void LaneMetrics::commits_lost(std::size_t, const spool::Position&, std::uint64_t events,
                               bool resent) {
  add(numbers_->commits_lost, 1);
  add(resent ? numbers_->rewound : numbers_->lost, events);
}

std::uint64_t LaneMetrics::events_committed() const {
  return value(numbers_->committed);
}
std::uint64_t LaneMetrics::events_rewound() const {
  return value(numbers_->rewound);
}
std::uint64_t LaneMetrics::events_lost() const {
  return value(numbers_->lost);
}
std::uint64_t LaneMetrics::events_found_committed() const {
  return value(numbers_->found_committed);
}
std::uint64_t LaneMetrics::events_in_table() const {
  return value(numbers_->in_table);
}
std::uint64_t LaneMetrics::events_set_aside() const {
  return value(numbers_->set_aside);
}
std::uint64_t LaneMetrics::events_forgotten() const {
  return value(numbers_->forgotten);
}

std::size_t LaneMetrics::lanes_in(sink::LaneState state) const {
  return static_cast<std::size_t>(std::count_if(
      numbers_->states.begin(), numbers_->states.end(),
      [state](const auto& lane) { return lane.load(std::memory_order_relaxed) == state; }));
}

void LaneMetrics::collect(std::vector<prometheus::MetricFamily>& families) const {
  const Numbers& numbers = *numbers_;
  families.push_back(make_family(Metric::lanes));
  for (const auto& [state, label] : kStateLabels) {
    add_value(families.back(), std::uint64_t{lanes_in(state)}, {{"state", label}});
  }
  add_counter(families, Metric::batches, numbers.batches);
  add_counter(families, Metric::copy_bytes, numbers.copy_bytes);
  families.push_back(make_family(Metric::failures));
  for (std::size_t i = 0; i <= kOtherClass; ++i) {
    const std::string_view label = class_label(i);
    add_value(families.back(), value(numbers.retries[i]),
              {{"action", "retry"}, {"sqlstate_class", label}});
    add_value(families.back(), value(numbers.holds[i]),
              {{"action", "hold"}, {"sqlstate_class", label}});
  }
  families.push_back(make_family(Metric::rows_set_aside));
  for (std::size_t i = 0; i <= kOtherClass; ++i) {
    add_value(families.back(), value(numbers.rows_set_aside[i]),
              {{"sqlstate_class", class_label(i)}});
  }
  add_counter(families, Metric::commits_unknown, numbers.commits_unknown);
  add_counter(families, Metric::commits_lost, numbers.commits_lost);
  add_histogram(families, Metric::receipt_to_committed, numbers.receipt_to_committed);
  add_histogram(families, Metric::copy_duration, numbers.copy_duration);
  add_histogram(families, Metric::commit_duration, numbers.commit_duration);
  add_histogram(families, Metric::batch_rows, numbers.batch_rows);
}

}  // namespace sluice::daemon
