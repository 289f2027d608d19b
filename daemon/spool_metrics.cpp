#include "daemon/spool_metrics.hpp"

#include <prometheus/histogram.h>

#include <algorithm>
#include <atomic>

#include "daemon/metric_family.hpp"

namespace sluice::daemon {
namespace {

using Counter = std::atomic<std::uint64_t>;

void add(Counter& counter, std::uint64_t n) {
  counter.fetch_add(n, std::memory_order_relaxed);
}

// From a write into a controller's cache to a disk that is about to fail.
const std::vector<double> kSyncSeconds = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01,
                                          0.025,  0.05,    0.1,    0.25,  0.5,    1,     5};
// A line that finds the spool full waits for as long as that lasts.
const std::vector<double> kDurableSeconds = {0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,
                                             0.25,   0.5,   1,      2.5,   5,    30,    300,  3600};

double seconds_of(std::chrono::microseconds time) {
  return std::chrono::duration<double>(time).count();
}

}  // namespace

struct SpoolMetrics::Numbers {
  Counter torn_tails{0};
  Counter corruptions{0};
  Counter read_errors{0};
  Counter events_quarantined{0};
  Counter files_set_aside{0};
  Counter segments_missing{0};
  Counter segments_poisoned{0};
  Counter keys_unwritten{0};
  Counter keys_lost{0};
  Counter times_full{0};
  prometheus::Histogram sync_duration{kSyncSeconds};
  prometheus::Histogram receipt_to_durable{kDurableSeconds};
  // Of block_durable() alone, kept so that it allocates nothing.
  std::vector<double> durable_counts = std::vector<double>(kDurableSeconds.size() + 1);
};

SpoolMetrics::SpoolMetrics() : numbers_(std::make_unique<Numbers>()) {}

SpoolMetrics::~SpoolMetrics() = default;

void SpoolMetrics::torn_tail(const spool::Uuid&, std::uint64_t) {
  add(numbers_->torn_tails, 1);
}

void SpoolMetrics::quarantined(const spool::Uuid&, std::uint64_t,
                               std::optional<std::uint64_t> events, std::uint64_t) {
  add(numbers_->corruptions, 1);
  add(numbers_->events_quarantined, events.value_or(0));
}

void SpoolMetrics::damaged_at_start(const spool::StartDamage& damage) {
  add(numbers_->corruptions, damage.runs);
}

void SpoolMetrics::read_failed(const spool::Uuid&, std::uint64_t, std::error_code) {
  add(numbers_->read_errors, 1);
}

void SpoolMetrics::file_set_aside(const std::string&, std::string_view) {
  add(numbers_->files_set_aside, 1);
}

void SpoolMetrics::segments_missing(std::uint64_t count) {
  add(numbers_->segments_missing, count);
}

void SpoolMetrics::segment_poisoned(const spool::Uuid&, std::string_view, std::error_code) {
  add(numbers_->segments_poisoned, 1);
}

void SpoolMetrics::full(std::string_view) {
  add(numbers_->times_full, 1);
}

void SpoolMetrics::room_again() {}

void SpoolMetrics::synced(std::chrono::microseconds took) {
  numbers_->sync_duration.Observe(seconds_of(took));
}

void SpoolMetrics::keys_unwritten(const std::string&, std::string_view) {
  add(numbers_->keys_unwritten, 1);
}

void SpoolMetrics::keys_lost(const std::string&, std::string_view) {
  add(numbers_->keys_lost, 1);
}

void SpoolMetrics::block_durable(std::span<const ReceivedGroup> groups, std::int64_t durable_us) {
  std::vector<double>& counts = numbers_->durable_counts;
  std::fill(counts.begin(), counts.end(), 0);
  double sum = 0;
  for (const ReceivedGroup& group : groups) {
    // A wall clock that was set back makes no latency below nothing.
    const double seconds = seconds_of(
        std::chrono::microseconds(std::max<std::int64_t>(0, durable_us - group.received_us)));
    const auto bucket = std::lower_bound(kDurableSeconds.begin(), kDurableSeconds.end(), seconds);
    const auto events = static_cast<double>(group.events);
    counts[static_cast<std::size_t>(bucket - kDurableSeconds.begin())] += events;
    sum += seconds * events;
  }
  numbers_->receipt_to_durable.ObserveMultiple(counts, sum);
}

std::uint64_t SpoolMetrics::events_quarantined() const {
  return numbers_->events_quarantined.load(std::memory_order_relaxed);
}

void SpoolMetrics::collect(std::vector<prometheus::MetricFamily>& families) const {
  const Numbers& numbers = *numbers_;
  add_counter(families, Metric::spool_times_full, numbers.times_full);
  add_counter(families, Metric::spool_torn_tails, numbers.torn_tails);
  add_counter(families, Metric::spool_corruptions, numbers.corruptions);
  add_counter(families, Metric::spool_read_errors, numbers.read_errors);
  add_counter(families, Metric::spool_files_set_aside, numbers.files_set_aside);
  add_counter(families, Metric::spool_segments_missing, numbers.segments_missing);
  add_counter(families, Metric::spool_segments_poisoned, numbers.segments_poisoned);
  add_counter(families, Metric::spool_keys_unwritten, numbers.keys_unwritten);
  add_counter(families, Metric::spool_keys_lost, numbers.keys_lost);
  add_histogram(families, Metric::spool_sync_duration, numbers.sync_duration);
  add_histogram(families, Metric::receipt_to_durable, numbers.receipt_to_durable);
}

}  // namespace sluice::daemon
