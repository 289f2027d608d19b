// Collects the series and writes them as text.
#include "daemon/metrics.hpp"

#include <prometheus/text_serializer.h>

#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/metric_family.hpp"
#include "daemon/process_stats.hpp"

namespace sluice::daemon {
namespace {

using Families = std::vector<prometheus::MetricFamily>;

// In the order of ingest::KnownField.
constexpr std::array<std::string_view, ingest::kKnownFieldCount> kFieldLabels = {
    "type", "id", "source", "session_id", "parent_id", "time"};

std::uint64_t value(const ingest::Count& count) {
  return count.load(std::memory_order_relaxed);
}

template <typename Number>
void add_single(Families& families, Metric metric, Number number) {
  families.push_back(make_family(metric));
  add_value(families.back(), number);
}

// Subtraction of two counts that were not read in the same instant.
std::uint64_t at_least_zero(std::uint64_t whole, std::uint64_t part) {
  return whole > part ? whole - part : 0;
}

// What comes last in an event's life is read first, so that a scrape never shows an event at a
// later stage and not yet at an earlier one.
void collect_events(Families& families, const ingest::IngestCounters& ingest,
                    const LaneMetrics& lanes, const SpoolMetrics& spool,
                    const MetricsGauges& gauges) {
  const std::uint64_t in_spool = gauges.events_in_spool();
  const std::uint64_t quarantined = spool.events_quarantined() + lanes.events_forgotten();
  const std::uint64_t found_committed = lanes.events_found_committed();
  const std::uint64_t set_aside = lanes.events_set_aside();
  const std::uint64_t lost = lanes.events_lost();
  const std::uint64_t rewound = lanes.events_rewound();
  const std::uint64_t committed = lanes.events_committed();
  const std::uint64_t in_table = lanes.events_in_table();
  const std::uint64_t duplicate = value(ingest.duplicates);
  const std::uint64_t journaled = value(ingest.events_journaled);
  const std::uint64_t turned_away = value(ingest.events_turned_away);
  const std::uint64_t dropped = value(ingest.events_dropped);
  const std::uint64_t dropped_unread = value(ingest.lines_dropped);
  const std::uint64_t accepted = value(ingest.events_accepted);
  std::array<std::uint64_t, ingest::kRefusalCount> refused{};
  for (std::size_t i = 0; i < refused.size(); ++i) refused[i] = value(ingest.refused[i]);
  const std::uint64_t received = value(ingest.lines_received);

  families.push_back(make_family(Metric::events));
  prometheus::MetricFamily& events = families.back();
  add_value(events, received, {{"stage", "received"}});
  add_value(events, gauges.events_recovered, {{"stage", "recovered"}});
  add_value(events, accepted, {{"stage", "accepted"}});
  for (std::size_t i = 0; i < refused.size(); ++i) {
    const std::string_view code = ingest::refusal_code(static_cast<ingest::Refusal>(i));
    add_value(events, refused[i], {{"stage", "rejected"}, {"reason", code}});
  }
  add_value(events, dropped + dropped_unread, {{"stage", "dropped"}});
  add_value(events, journaled, {{"stage", "journaled"}});
  add_value(events, duplicate, {{"stage", "duplicate"}});
  add_value(events, in_table, {{"stage", "duplicate"}, {"reason", "in_table"}});
  add_value(events, committed, {{"stage", "committed"}});
  add_value(events, found_committed, {{"stage", "found_committed"}});
  add_value(events, set_aside, {{"stage", "set_aside"}});
  add_value(events, rewound, {{"stage", "rewound"}});
  add_value(events, lost, {{"stage", "lost"}});
  add_value(events, quarantined, {{"stage", "quarantined"}});

  const std::uint64_t in_queue =
      at_least_zero(accepted, journaled + duplicate + turned_away + dropped);
  const std::uint64_t on_disk = gauges.spool_on_disk ? in_spool : 0;
  add_single(families, Metric::events_in_memory, in_queue + in_spool - on_disk);
  add_single(families, Metric::spool_events, on_disk);
}

void collect_lines(Families& families, const ingest::IngestCounters& ingest) {
  families.push_back(make_family(Metric::lines_skipped));
  add_value(families.back(), value(ingest.lines_empty), {{"reason", "empty"}});
  add_value(families.back(), value(ingest.lines_partial), {{"reason", "partial"}});
  add_value(families.back(), value(ingest.lines_timed_out), {{"reason", "timed_out"}});
  add_single(families, Metric::received_bytes, value(ingest.bytes_received));
  families.push_back(make_family(Metric::misfits));
  for (std::size_t i = 0; i < kFieldLabels.size(); ++i) {
    add_value(families.back(), value(ingest.misfits[i]), {{"field", kFieldLabels[i]}});
  }
  families.push_back(make_family(Metric::mended));
  add_value(families.back(), value(ingest.nul_mended), {{"what", "nul"}});
  add_value(families.back(), value(ingest.text_mended), {{"what", "text"}});
  add_single(families, Metric::duplicate_keys, value(ingest.duplicate_keys));
  add_single(families, Metric::id_conflicts, value(ingest.id_conflicts));
  add_single(families, Metric::time_skew, value(ingest.time_skew));
}

// A series for each rule, from the start on.
void collect_redacted(Families& families, const ingest::Redactor* redactor) {
  families.push_back(make_family(Metric::redacted));
  if (redactor == nullptr) return;
  for (std::size_t rule = 0; rule < redactor->rules(); ++rule) {
    add_value(families.back(), redactor->count(rule), {{"rule", redactor->name(rule)}});
  }
}

void collect_rejects(Families& families, const MetricsGauges& gauges) {
  const spool::RejectLog* const rejects = gauges.rejects;
  families.push_back(make_family(Metric::rejects));
  add_value(families.back(), rejects == nullptr ? 0 : rejects->kept(), {{"kept", "yes"}});
  add_value(families.back(), rejects == nullptr ? 0 : rejects->unkept(), {{"kept", "no"}});
  add_single(families, Metric::rejects_bytes, rejects == nullptr ? 0 : rejects->bytes());
  add_single(families, Metric::rejects_bytes_max, gauges.rejects_bytes_max);
}

void collect_connections(Families& families, const ingest::IngestCounters& ingest) {
  const std::uint64_t closed = value(ingest.connections_closed);
  const std::uint64_t opened = value(ingest.connections_opened);
  add_single(families, Metric::connections, at_least_zero(opened, closed));
  add_single(families, Metric::connections_opened, opened);
  families.push_back(make_family(Metric::connections_refused));
  constexpr std::array<const char*, ingest::kUidClassCount> kUids = {"root", "system", "user",
                                                                     "tcp"};
  for (std::size_t i = 0; i < kUids.size(); ++i) {
    add_value(families.back(), value(ingest.connections_refused_uid[i]),
              {{"reason", "uid"}, {"uid", kUids[i]}});
    add_value(families.back(), value(ingest.connections_refused_cap[i]),
              {{"reason", "cap"}, {"uid", kUids[i]}});
  }
}

void collect_gauges(Families& families, const ingest::IngestCounters& ingest,
                    const MetricsGauges& gauges) {
  add_single(families, Metric::queue_bytes, gauges.queue_bytes());
  add_single(families, Metric::queue_bytes_max, gauges.queue_bytes_max);
  add_single(families, Metric::queue_waits, value(ingest.budget_waits));
  add_single(families, Metric::dedupe_keys, gauges.dedupe_keys());
  add_single(families, Metric::dedupe_window, gauges.dedupe_window_seconds());
}

// The spool tells it in words; label values are few and fixed.
std::string_view full_label(std::string_view why) {
  if (why.empty()) return "";
  if (why.find("bytes_max") != std::string_view::npos) return "cap";
  return why.find("disk is full") != std::string_view::npos ? "disk_full" : "disk_failed";
}

void collect_spool(Families& families, const MetricsGauges& gauges, const SpoolMetrics& spool) {
  add_single(families, Metric::spool_bytes, gauges.spool_bytes());
  add_single(families, Metric::spool_bytes_max, gauges.spool_bytes_max);
  add_single(families, Metric::spool_segments, gauges.spool_segments());
  families.push_back(make_family(Metric::spool_full));
  const std::string_view full = full_label(gauges.why_spool_full());
  for (const std::string_view label : {"cap", "disk_full", "disk_failed"}) {
    add_value(families.back(), std::uint64_t{label == full}, {{"reason", label}});
  }
  spool.collect(families);
}

void collect_aside(Families& families, const MetricsGauges& gauges) {
  const AsideNumbers aside = gauges.aside();
  families.push_back(make_family(Metric::aside_records));
  for (std::size_t i = 0; i < aside.records.size(); ++i) {
    const auto state = spool::aside_state_name(static_cast<spool::AsideState>(i));
    add_value(families.back(), aside.records[i], {{"state", state}});
  }
  add_value(families.back(), aside.delivered, {{"state", "delivered"}});
  add_single(families, Metric::aside_bytes, aside.bytes);
  add_single(families, Metric::aside_bytes_max, aside.bytes_max);
  families.push_back(make_family(Metric::aside_alarm));
  add_value(families.back(), std::uint64_t{aside.nearly_full()}, {{"level", "near"}});
  add_value(families.back(), std::uint64_t{aside.full}, {{"level", "full"}});
  const RedeliveryNumbers redelivery = gauges.redelivery();
  families.push_back(make_family(Metric::redelivered));
  add_value(families.back(), redelivery.delivered, {{"outcome", "delivered"}});
  add_value(families.back(), redelivery.died, {{"outcome", "dead"}});
  add_value(families.back(), redelivery.lost, {{"outcome", "lost"}});
}

void collect_process(Families& families, std::string_view version) {
  families.push_back(make_family(Metric::build_info));
  add_value(families.back(), 1.0, {{"version", version}});
  const ProcessStats stats = read_process_stats();
  add_single(families, Metric::process_start_time, stats.start_time_seconds);
  add_single(families, Metric::process_cpu, stats.cpu_seconds);
  add_single(families, Metric::process_resident_memory, stats.resident_bytes);
  add_single(families, Metric::process_virtual_memory, stats.virtual_bytes);
  add_single(families, Metric::process_open_fds, stats.open_fds);
  add_single(families, Metric::process_max_fds, stats.max_fds);
}

}  // namespace

Metrics::Metrics(std::string version, const ingest::IngestCounters& ingest,
                 const LaneMetrics& lanes, const SpoolMetrics& spool, MetricsGauges gauges)
    : version_(std::move(version)),
      ingest_(ingest),
      lanes_(lanes),
      spool_(spool),
      gauges_(std::move(gauges)) {}

std::string Metrics::text() const {
  Families families;
  families.reserve(kMetricCount);
  collect_events(families, ingest_, lanes_, spool_, gauges_);
  add_single(families, Metric::oldest_event_age, gauges_.oldest_event_age_seconds());
  collect_lines(families, ingest_);
  collect_redacted(families, gauges_.redactor);
  collect_rejects(families, gauges_);
  collect_connections(families, ingest_);
  add_single(families, Metric::acks_sent, value(ingest_.acks_sent));
  add_single(families, Metric::nacks_sent, value(ingest_.nacks_sent));
  add_single(families, Metric::producers, gauges_.producers());
  collect_gauges(families, ingest_, gauges_);
  collect_spool(families, gauges_, spool_);
  collect_aside(families, gauges_);
  lanes_.collect(families);
  collect_process(families, version_);
  return prometheus::TextSerializer().Serialize(families);
}

}  // namespace sluice::daemon
