// Everything that /metrics shows: the counters of ingest, the lanes' numbers, gauges, and the
// process.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>

#include "daemon/lane_metrics.hpp"
#include "daemon/spool_metrics.hpp"
#include "ingest/ingest_counters.hpp"
#include "ingest/redactor.hpp"
#include "spool/aside.hpp"
#include "spool/reject_log.hpp"

namespace sluice::daemon {

// Of set-aside events; nothing without a spool on disk.
struct AsideNumbers {
  std::array<std::uint64_t, spool::kAsideStateCount> records{};  // not delivered, by state
  std::uint64_t delivered = 0;                                   // and still kept
  std::uint64_t bytes = 0;
  std::uint64_t bytes_max = 0;
  bool full = false;

  [[nodiscard]] bool nearly_full() const { return bytes_max > 0 && bytes >= bytes_max / 10 * 8; }
};

// What became of those that were tried again.
struct RedeliveryNumbers {
  std::uint64_t delivered = 0;
  std::uint64_t died = 0;
  std::uint64_t lost = 0;
};

// Where the gauges come from. Each is called once for each scrape, on the thread that serves it.
struct MetricsGauges {
  std::function<std::uint64_t()> queue_bytes;
  std::uint64_t queue_bytes_max = 0;
  const ingest::Redactor* redactor = nullptr;  // none: nothing is redacted
  const spool::RejectLog* rejects = nullptr;   // none: refused lines are only counted
  std::uint64_t rejects_bytes_max = 0;
  bool spool_on_disk = false;
  // Appended to the spool and not yet committed.
  std::function<std::uint64_t()> events_in_spool;
  std::uint64_t events_recovered = 0;
  std::function<std::uint64_t()> spool_bytes;
  std::uint64_t spool_bytes_max = 0;
  std::function<std::uint64_t()> spool_segments;
  std::function<std::string()> why_spool_full;  // as spool::DiskSpool::why_full()
  std::function<AsideNumbers()> aside = [] { return AsideNumbers(); };
  std::function<RedeliveryNumbers()> redelivery = [] { return RedeliveryNumbers(); };
  std::function<std::uint64_t()> producers;
  std::function<double()> oldest_event_age_seconds;
  std::function<std::uint64_t()> dedupe_keys;
  std::function<double()> dedupe_window_seconds;
};

// Reads at each scrape what others count anyway, so that it costs them nothing.
//
// Threads: any.
class Metrics final {
 public:
  // The counters, the lanes, the spool and what the gauges read outlive the Metrics.
  // REQUIRES: every gauge is set.
  Metrics(std::string version, const ingest::IngestCounters& ingest, const LaneMetrics& lanes,
          const SpoolMetrics& spool, MetricsGauges gauges);

  // In Prometheus' text format, version 0.0.4.
  [[nodiscard]] std::string text() const;

 private:
  const std::string version_;
  const ingest::IngestCounters& ingest_;
  const LaneMetrics& lanes_;
  const SpoolMetrics& spool_;
  const MetricsGauges gauges_;
};

}  // namespace sluice::daemon
