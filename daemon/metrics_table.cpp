// The table of series and the page made of it.
#include "daemon/metrics_table.hpp"

namespace sluice::daemon {

using enum MetricKind;

const std::array<MetricInfo, kMetricCount> kMetrics = {{
    {Metric::events, "sluice_events_total", counter, "",
     "`stage`: `received`, `recovered`, `accepted`, `rejected`, `dropped`, `journaled`, "
     "`duplicate`, "
     "`committed`, `rewound`, `lost`, `quarantined`; `reason` (with `rejected`): the code of the "
     "refusal; (with `duplicate`): `in_table`, or none",
     "Events by the stage they reached. The books: received + recovered + rewound = committed + "
     "duplicate + rejected + dropped + quarantined + sluice_events_in_memory + "
     "sluice_spool_events, "
     "at any quiet moment."},
    {Metric::events_in_memory, "sluice_events_in_memory", gauge, "", "",
     "Events that were accepted and are only in memory: under way to the spool, or waiting for "
     "their "
     "commit where there is no spool on disk."},
    {Metric::spool_events, "sluice_spool_events", gauge, "", "",
     "Events in the spool on disk that wait for their commit."},
    {Metric::oldest_event_age, "sluice_oldest_event_age_seconds", gauge, "seconds", "",
     "Age of the oldest event that waits for its commit, since its receipt; 0 when none waits."},
    {Metric::lines_skipped, "sluice_lines_skipped_total", counter, "",
     "`reason`: `empty`, `partial`, `timed_out`",
     "Lines that are no events: empty, cut off at the end of a connection, or left half for too "
     "long."},
    {Metric::received_bytes, "sluice_received_bytes_total", counter, "bytes", "",
     "Bytes read from producers."},
    {Metric::misfits, "sluice_misfits_total", counter, "",
     "`field`: `type`, `id`, `source`, `session_id`, `parent_id`, `time`",
     "Known fields whose value did not fit and was kept in the extra column."},
    {Metric::mended, "sluice_mended_total", counter, "", "`what`: `nul`, `text`",
     "Accepted events in which text that Postgres cannot store was replaced."},
    {Metric::duplicate_keys, "sluice_duplicate_keys_total", counter, "", "",
     "Accepted events with a top-level key more than once; the last one counts."},
    {Metric::id_conflicts, "sluice_id_conflicts_total", counter, "", "",
     "Events with an id already seen on another event; they were given an id of their own."},
    {Metric::time_skew, "sluice_time_skew_total", counter, "", "",
     "Accepted events whose time is more than a day from the time of receipt."},
    {Metric::redacted, "sluice_redacted_total", counter, "",
     "`rule`: the `name` of the [[redact]], or its number",
     "Values of events that were replaced, by [[redact]]."},
    {Metric::rejects, "sluice_rejects_total", counter, "", "`kept`: `yes`, `no`",
     "Refused lines of producers that did not ask for acks, by whether the line is among the dead "
     "letters; `no` when there was no room, or the disk failed."},
    {Metric::rejects_bytes, "sluice_rejects_bytes", gauge, "bytes", "",
     "Bytes of the files of refused lines, aside/rejects-<n>.ndjson."},
    {Metric::rejects_bytes_max, "sluice_rejects_max_bytes", gauge, "bytes", "",
     "The bound of sluice_rejects_bytes (ingest.rejects_bytes_max); 0 without a spool on disk."},
    {Metric::connections, "sluice_connections", gauge, "", "", "Producers' open connections."},
    {Metric::connections_opened, "sluice_connections_opened_total", counter, "", "",
     "Connections opened by producers."},
    {Metric::connections_refused, "sluice_connections_refused_total", counter, "",
     "`reason`: `uid`, `cap`; `uid`: `root`, `system` (below 1000), `user`, `tcp`",
     "Connections closed at once because the producer may not connect, or has as many as it may."},
    {Metric::acks_sent, "sluice_acks_sent_total", counter, "", "",
     "Acks sent to producers that asked for them; one stands for all lines up to its number."},
    {Metric::nacks_sent, "sluice_nacks_sent_total", counter, "", "",
     "Nacks sent: refused lines of producers that asked for acks."},
    {Metric::producers, "sluice_producers", gauge, "", "",
     "Named producers whose last line is remembered."},
    {Metric::queue_bytes, "sluice_queue_bytes", gauge, "bytes", "",
     "Memory held by events: from their receipt until they are in the spool and a lane has read "
     "them, "
     "or until their commit where there is no spool on disk."},
    {Metric::queue_bytes_max, "sluice_queue_max_bytes", gauge, "bytes", "",
     "The bound of sluice_queue_bytes: when it is reached, sockets are not read."},
    {Metric::queue_waits, "sluice_queue_waits_total", counter, "", "",
     "Times a connection was not read because the bound of the queue was reached."},
    {Metric::dedupe_keys, "sluice_dedupe_keys", gauge, "", "", "Keys in the dedupe window."},
    {Metric::dedupe_window, "sluice_dedupe_window_seconds", gauge, "seconds", "",
     "Length of the dedupe window in effect: shorter than configured when keys_max cuts it."},
    {Metric::spool_bytes, "sluice_spool_bytes", gauge, "bytes", "",
     "Bytes of all files in the spool's directory."},
    {Metric::spool_bytes_max, "sluice_spool_max_bytes", gauge, "bytes", "",
     "The bound of sluice_spool_bytes (spool.bytes_max); 0 without a spool on disk."},
    {Metric::spool_segments, "sluice_spool_segments", gauge, "", "",
     "Segments in the spool's directory, those kept after their commit included."},
    {Metric::spool_full, "sluice_spool_full", gauge, "",
     "`reason`: `cap`, `disk_full`, `disk_failed`",
     "1 while the spool takes no events for this reason."},
    {Metric::spool_times_full, "sluice_spool_times_full_total", counter, "", "",
     "Times the spool began to take no events."},
    {Metric::spool_torn_tails, "sluice_spool_torn_tails_total", counter, "", "",
     "Segments with a write that a crash had cut short; nothing known to be synced is in it."},
    {Metric::spool_corruptions, "sluice_spool_corruptions_total", counter, "", "",
     "Runs of durable bytes that were found bad and copied to quarantine/; one that is found at "
     "the "
     "start counts once more if its events are still to be delivered."},
    {Metric::spool_read_errors, "sluice_spool_read_errors_total", counter, "", "",
     "Places in the spool that the disk could not read when a lane came there."},
    {Metric::spool_files_set_aside, "sluice_spool_files_set_aside_total", counter, "", "",
     "Files in the spool's directory that cannot be delivered."},
    {Metric::spool_segments_missing, "sluice_spool_segments_missing_total", counter, "", "",
     "Segments that somebody took away."},
    {Metric::spool_segments_poisoned, "sluice_spool_segments_poisoned_total", counter, "", "",
     "Segments whose write or sync failed; another goes on where each ends."},
    {Metric::spool_keys_unwritten, "sluice_spool_keys_unwritten_total", counter, "", "",
     "Side files that could not be written: their segments stay until they are, or the window has "
     "passed."},
    {Metric::spool_keys_lost, "sluice_spool_keys_lost_total", counter, "", "",
     "Side files that could not be read: the dedupe window is shorter."},
    {Metric::spool_sync_duration, "sluice_spool_sync_duration_seconds", histogram, "seconds", "",
     "Time of one fdatasync of the spool."},
    {Metric::receipt_to_durable, "sluice_receipt_to_durable_seconds", histogram, "seconds", "",
     "From an event's receipt until its block is durable, for every event."},
    {Metric::aside_records, "sluice_set_aside_records", gauge, "",
     "`state`: `dead`, `waiting`, `held`, `delivered`",
     "Events in the set-aside files, by what is to become of them: dead ones wait for `sluice dead "
     "retry`, waiting and held ones are tried again by themselves, delivered ones are kept for "
     "spool.retain_time."},
    {Metric::aside_bytes, "sluice_set_aside_bytes", gauge, "bytes", "",
     "Bytes of the set-aside files."},
    {Metric::aside_bytes_max, "sluice_set_aside_bytes_max", gauge, "bytes", "",
     "Most bytes that they may have (spool.aside_bytes_max)."},
    {Metric::aside_alarm, "sluice_set_aside_alarm", gauge, "", "`level`: `near`, `full`",
     "1 while the set-aside files have four fifths of their bytes, and while an event waits as "
     "they "
     "have no room for it: then its segment waits too."},
    {Metric::redelivered, "sluice_redelivered_events_total", counter, "",
     "`outcome`: `delivered`, `dead`, `lost`",
     "What became of set-aside events that the daemon tried again. Lost: a failover took the row "
     "back, and it is tried once more."},
    {Metric::lanes, "sluice_lanes", gauge, "",
     "`state`: `connecting`, `idle`, `sending`, `waiting`, `held`",
     "Lanes to Postgres by state. waiting: backs off after a failure that goes away by itself. "
     "held: a person must mend something."},
    {Metric::batches, "sluice_batches_total", counter, "", "", "Batches committed."},
    {Metric::copy_bytes, "sluice_copy_bytes_total", counter, "bytes", "",
     "Bytes of COPY data in committed batches."},
    {Metric::failures, "sluice_failures_total", counter, "",
     "`action`: `retry`, `hold`; `sqlstate_class`: the first two characters of the SQLSTATE, "
     "`none` when the connection itself failed, `other` for a class that is not known",
     "Failures of a lane's steps."},
    {Metric::rows_set_aside, "sluice_rows_set_aside_total", counter, "",
     "`sqlstate_class`: as above",
     "Rows whose event was written among the set-aside records, by why; again after a crash or a "
     "failover that came before their watermark."},
    {Metric::commits_unknown, "sluice_commits_unknown_total", counter, "", "",
     "Commits without an answer; the watermark told what became of them."},
    {Metric::commits_lost, "sluice_commits_lost_total", counter, "", "",
     "Times the database had forgotten committed batches, as after a failover."},
    {Metric::receipt_to_committed, "sluice_receipt_to_committed_seconds", histogram, "seconds", "",
     "From an event's receipt to the answer to its commit, for every event."},
    {Metric::copy_duration, "sluice_copy_duration_seconds", histogram, "seconds", "",
     "From the start of a batch's transaction to the end of its COPY."},
    {Metric::commit_duration, "sluice_commit_duration_seconds", histogram, "seconds", "",
     "Moving the watermark and COMMIT."},
    {Metric::batch_rows, "sluice_batch_rows", histogram, "", "", "Rows of a committed batch."},
    {Metric::build_info, "sluice_build_info", gauge, "", "`version`",
     "Always 1; the labels tell what runs."},
    {Metric::process_start_time, "process_start_time_seconds", gauge, "seconds", "",
     "Start of the process since the Unix epoch."},
    {Metric::process_cpu, "process_cpu_seconds_total", counter, "seconds", "",
     "User and system CPU time spent."},
    {Metric::process_resident_memory, "process_resident_memory_bytes", gauge, "bytes", "",
     "Resident memory size."},
    {Metric::process_virtual_memory, "process_virtual_memory_bytes", gauge, "bytes", "",
     "Virtual memory size."},
    {Metric::process_open_fds, "process_open_fds", gauge, "", "", "Open file descriptors."},
    {Metric::process_max_fds, "process_max_fds", gauge, "", "",
     "The most file descriptors that the process may open."},
}};

namespace {

std::string_view kind_name(MetricKind kind) {
  switch (kind) {
    case counter:
      return "counter";
    case gauge:
      return "gauge";
    case histogram:
      return "histogram";
  }
  return "";
}

constexpr std::string_view kIntroduction = R"(# Metrics

`metrics.listen` serves them at `/metrics` in Prometheus' text format. This page is made from the
table in `daemon/metrics_table.cpp`; a test holds the two together.

## The books

Every event that came in is somewhere. At any quiet moment:

    sluice_events_total{stage="received"} + sluice_events_total{stage="recovered"}
      + sluice_events_total{stage="rewound"}
      = sluice_events_total{stage="committed"}
      + sluice_events_total{stage="found_committed"}
      + sluice_events_total{stage="set_aside"}
      + sum(sluice_events_total{stage="duplicate"})
      + sum(sluice_events_total{stage="rejected"})
      + sluice_events_total{stage="dropped"}
      + sluice_events_total{stage="quarantined"}
      + sluice_events_in_memory + sluice_spool_events

| stage | an event is counted |
|---|---|
| `received` | when its line is whole (or is found to be too long); empty and cut off lines are no events |
| `rejected` | when its line is refused, under the code that the producer is told |
| `dropped` | when there is no room for it and its listener has `on_full = "drop"` |
| `accepted` | when it goes into the queue; with `on_full = "reject"` or `"drop"` it may still be rejected (`full`) or dropped there |
| `duplicate` | when the dedupe window knows it already; with the reason `in_table`, when its row was merged and the table has it already |
| `journaled` | when it has its place in a segment |
| `recovered` | at start: it is in a segment that an earlier run left, committed or not |
| `quarantined` | when the disk is found to have lost it, as far as the number is known; or when its segment is older than the database remembers, and was moved to `quarantine/` whole |
| `committed` | when Postgres has answered its COMMIT, or the watermark tells that it took effect |
| `found_committed` | when the watermark tells that it was committed before this lane came to it: by an earlier run, or by a copy of the spool |
| `set_aside` | when Postgres refused its row for itself, it is in the spool's `aside/`, and the watermark has passed it |
| `rewound` | when a failover lost its commit and it is sent again, so that it will be committed twice in this count |
| `lost` | when a failover lost its commit and it is gone here too; it stays in `committed` |

The counts are since the start of the process. A single scrape while events flow may be off by those
under way between two of its readings.

## Series

| name | type | unit | labels | meaning |
|---|---|---|---|---|
)";

}  // namespace

const MetricInfo& metric_info(Metric metric) {
  return kMetrics[static_cast<std::size_t>(metric)];
}

std::string metrics_reference() {
  std::string page(kIntroduction);
  for (const MetricInfo& info : kMetrics) {
    page.append("| `").append(info.name).append("` |");
    for (const std::string_view cell : {kind_name(info.kind), info.unit, info.labels, info.help}) {
      page.append(cell.empty() ? "" : " ").append(cell).append(" |");
    }
    page += '\n';
  }
  return page;
}

}  // namespace sluice::daemon
