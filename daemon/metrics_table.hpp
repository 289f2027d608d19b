// Every series that /metrics shows, in its order: the one place for names, types, units, labels and
// help. docs/metrics.md is made from it.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

namespace sluice::daemon {

// In the order of kMetrics.
enum class Metric {
  events,
  events_in_memory,
  spool_events,
  oldest_event_age,
  lines_skipped,
  received_bytes,
  misfits,
  mended,
  duplicate_keys,
  id_conflicts,
  time_skew,
  redacted,
  rejects,
  rejects_bytes,
  rejects_bytes_max,
  connections,
  connections_opened,
  connections_refused,
  acks_sent,
  nacks_sent,
  producers,
  queue_bytes,
  queue_bytes_max,
  queue_waits,
  dedupe_keys,
  dedupe_window,
  spool_bytes,
  spool_bytes_max,
  spool_segments,
  spool_full,
  spool_times_full,
  spool_torn_tails,
  spool_corruptions,
  spool_read_errors,
  spool_files_set_aside,
  spool_segments_missing,
  spool_segments_poisoned,
  spool_keys_unwritten,
  spool_keys_lost,
  spool_sync_duration,
  receipt_to_durable,
  aside_records,
  aside_bytes,
  aside_bytes_max,
  aside_alarm,
  redelivered,
  lanes,
  batches,
  copy_bytes,
  failures,
  rows_set_aside,
  commits_unknown,
  commits_lost,
  receipt_to_committed,
  copy_duration,
  commit_duration,
  batch_rows,
  build_info,
  process_start_time,
  process_cpu,
  process_resident_memory,
  process_virtual_memory,
  process_open_fds,
  process_max_fds,
};
inline constexpr std::size_t kMetricCount = 64;

enum class MetricKind { counter, gauge, histogram };

struct MetricInfo {
  Metric id;
  std::string_view name;
  MetricKind kind;
  std::string_view unit;    // "" for a plain number
  std::string_view labels;  // for people: each label with its values
  std::string_view help;
};

extern const std::array<MetricInfo, kMetricCount> kMetrics;

[[nodiscard]] const MetricInfo& metric_info(Metric metric);

// What docs/metrics.md holds.
[[nodiscard]] std::string metrics_reference();

}  // namespace sluice::daemon
