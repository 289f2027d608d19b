// What /metrics shows: the table's series, Prometheus' format, and books that balance.
#include "daemon/metrics.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "daemon/metrics_table.hpp"
#include "daemon/process_stats.hpp"

namespace sluice::daemon {
namespace {

using namespace std::chrono_literals;

constexpr std::int64_t kNowUs = 1'700'000'000'000'000;

MetricsGauges fixed_gauges() {
  return {.queue_bytes = [] { return std::uint64_t{4096}; },
          .queue_bytes_max = 16 << 20,
          .spool_on_disk = false,
          .events_in_spool = [] { return std::uint64_t{0}; },
          .events_recovered = 0,
          .spool_bytes = [] { return std::uint64_t{8192}; },
          .spool_bytes_max = 1 << 30,
          .spool_segments = [] { return std::uint64_t{3}; },
          .why_spool_full = [] { return std::string(); },
          .producers = [] { return std::uint64_t{5}; },
          .oldest_event_age_seconds = [] { return 0.25; },
          .dedupe_keys = [] { return std::uint64_t{12}; },
          .dedupe_window_seconds = [] { return 600.0; }};
}

struct Fixture {
  ingest::IngestCounters ingest;
  LaneMetrics lanes{2, [] { return kNowUs; }};
  SpoolMetrics spool;
  MetricsGauges gauges = fixed_gauges();

  [[nodiscard]] std::string text() const {
    return Metrics("1.2.3", ingest, lanes, spool, gauges).text();
  }

  void commit(std::vector<sink::CommittedGroup> groups) {
    sink::CommittedBatch batch{.events = 0,
                               .duplicates = 0,
                               .bytes = 1000,
                               .copy_time = 3ms,
                               .commit_time = 700us,
                               .groups = groups};
    for (const sink::CommittedGroup& group : groups) batch.events += group.events;
    lanes.batch_committed(0, batch);
  }
};

// The value of the line that starts with `series`, which is a name with its labels. Fails the test
// if there is none.
double sample(const std::string& text, const std::string& series) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(series + " ")) return std::stod(line.substr(series.size() + 1));
  }
  FAIL("no series " << series << " in\n" << text);
  return 0;
}

double stage(const std::string& text, const std::string& name) {
  return sample(text, "sluice_events_total{stage=\"" + name + "\"}");
}

double rejected(const std::string& text) {
  double sum = 0;
  for (std::size_t i = 0; i < ingest::kRefusalCount; ++i) {
    const auto code = std::string(ingest::refusal_code(static_cast<ingest::Refusal>(i)));
    sum += sample(text, "sluice_events_total{stage=\"rejected\",reason=\"" + code + "\"}");
  }
  return sum;
}

std::string read_all(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

TEST_CASE("metrics: the table is in the order of its names") {
  for (std::size_t i = 0; i < kMetricCount; ++i) {
    CHECK(static_cast<std::size_t>(kMetrics[i].id) == i);
  }
}

TEST_CASE("metrics: a scrape shows each series of the table once, in the table's order") {
  std::istringstream lines(Fixture().text());
  std::vector<std::string> shown;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("# TYPE ")) shown.push_back(line.substr(7, line.find(' ', 7) - 7));
  }
  std::vector<std::string> wanted;
  for (const MetricInfo& info : kMetrics) wanted.emplace_back(info.name);
  CHECK(shown == wanted);
}

TEST_CASE("metrics: docs/metrics.md is what the table makes it (SLUICE_UPDATE_DOCS=1 writes it)") {
  const std::filesystem::path page = SLUICE_SOURCE_DIR "/docs/metrics.md";
  if (std::getenv("SLUICE_UPDATE_DOCS") != nullptr) std::ofstream(page) << metrics_reference();
  CHECK(read_all(page) == metrics_reference());
}

TEST_CASE("metrics: promtool finds nothing to say about a scrape") {
  Fixture fixture;
  fixture.commit({{.received_us = kNowUs - 20'000, .events = 5}});
  fixture.lanes.failed(0, "copy", {.sqlstate = "57P01", .message = "", .column = ""}, 100ms);

  std::array<char, 32> file{"/tmp/sluice-metrics-XXXXXX"};
  const int fd = ::mkstemp(file.data());
  REQUIRE(fd >= 0);
  ::close(fd);
  std::ofstream(file.data()) << fixture.text();
  const std::string command = "promtool check metrics < " + std::string(file.data()) + " 2>&1";
  std::FILE* pipe = ::popen(command.c_str(), "r");
  REQUIRE(pipe != nullptr);
  std::string said;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) said += static_cast<char>(c);
  const int status = ::pclose(pipe);
  std::filesystem::remove(file.data());
  INFO("promtool is in Debian's package prometheus; it said: " << said);
  CHECK(status == 0);
  CHECK(said.empty());
}

TEST_CASE("metrics: the books balance over every stage") {
  Fixture fixture;
  ingest::add(fixture.ingest.lines_received, 100);
  ingest::add(fixture.ingest.refused[static_cast<std::size_t>(ingest::Refusal::syntax)], 4);
  ingest::add(fixture.ingest.refused[static_cast<std::size_t>(ingest::Refusal::too_long)], 1);
  ingest::add(fixture.ingest.events_accepted, 95);
  ingest::add(fixture.ingest.duplicates, 7);
  ingest::add(fixture.ingest.events_journaled, 80);  // 8 wait in the queue
  fixture.commit({{.received_us = kNowUs, .events = 60}});
  fixture.lanes.commit_unknown(1);
  fixture.lanes.unknown_was_committed(1, 6);
  fixture.lanes.commits_lost(0, {}, 10, true);  // these wait in the spool again
  fixture.lanes.commits_lost(0, {}, 3, false);
  fixture.gauges.events_in_spool = [] { return std::uint64_t{80 - 66 + 10}; };

  const std::string text = fixture.text();
  CHECK(stage(text, "committed") == 66);
  CHECK(stage(text, "lost") == 3);
  CHECK(rejected(text) == 5);
  CHECK(sample(text, "sluice_events_in_memory") == 32);
  CHECK(stage(text, "received") + stage(text, "rewound") ==
        stage(text, "committed") + stage(text, "duplicate") + rejected(text) +
            sample(text, "sluice_events_in_memory"));
}

TEST_CASE("metrics: the books balance with a spool on disk that an earlier run filled") {
  Fixture fixture;
  fixture.gauges.spool_on_disk = true;
  fixture.gauges.events_recovered = 500;
  ingest::add(fixture.ingest.lines_received, 110);
  ingest::add(fixture.ingest.lines_dropped, 10);  // without room to read them into
  ingest::add(fixture.ingest.refused[static_cast<std::size_t>(ingest::Refusal::full)], 20);
  ingest::add(fixture.ingest.events_turned_away, 20);
  ingest::add(fixture.ingest.events_dropped, 30);
  ingest::add(fixture.ingest.events_accepted, 100);
  ingest::add(fixture.ingest.events_journaled, 45);  // 5 wait in the queue
  fixture.spool.quarantined({}, 7, 12, 4096);
  fixture.spool.quarantined({}, 99, std::nullopt, 64);
  fixture.commit({{.received_us = kNowUs, .events = 200}});
  fixture.lanes.found_committed(0, 100);
  fixture.lanes.set_aside_committed(0, 3);
  fixture.lanes.segment_forgotten(0, {}, 20);
  fixture.gauges.events_in_spool = [] { return std::uint64_t{500 + 45 - 200 - 12 - 100 - 3 - 20}; };

  const std::string text = fixture.text();
  CHECK(stage(text, "recovered") == 500);
  CHECK(stage(text, "dropped") == 40);
  CHECK(stage(text, "quarantined") == 32);
  CHECK(stage(text, "found_committed") == 100);
  CHECK(stage(text, "set_aside") == 3);
  CHECK(sample(text, "sluice_events_in_memory") == 5);
  CHECK(sample(text, "sluice_spool_events") == 210);
  CHECK(stage(text, "received") + stage(text, "recovered") + stage(text, "rewound") ==
        stage(text, "committed") + stage(text, "found_committed") + stage(text, "set_aside") +
            stage(text, "duplicate") + rejected(text) + stage(text, "dropped") +
            stage(text, "quarantined") + sample(text, "sluice_events_in_memory") +
            sample(text, "sluice_spool_events"));
}

TEST_CASE("metrics: what the spool reports is counted") {
  Fixture fixture;
  fixture.spool.torn_tail({}, 100);
  fixture.spool.quarantined({}, 0, 3, 4096);
  fixture.spool.damaged_at_start({.segment = {}, .events = 5, .runs = 2});
  fixture.spool.read_failed({}, 64, std::make_error_code(std::errc::io_error));
  fixture.spool.file_set_aside("seg-x", "it is none of ours");
  fixture.spool.segments_missing(2);
  fixture.spool.segment_poisoned({}, "sync", std::make_error_code(std::errc::io_error));
  fixture.spool.keys_unwritten("seg-x.keys", "no room");
  fixture.spool.keys_unwritten("seg-y.keys", "no room");
  fixture.spool.keys_lost("seg-x.keys", "it is broken");
  fixture.spool.full("the disk is full");
  fixture.spool.synced(700us);

  const std::string text = fixture.text();
  CHECK(sample(text, "sluice_spool_torn_tails_total") == 1);
  CHECK(sample(text, "sluice_spool_corruptions_total") == 3);
  CHECK(sample(text, "sluice_spool_read_errors_total") == 1);
  CHECK(sample(text, "sluice_spool_files_set_aside_total") == 1);
  CHECK(sample(text, "sluice_spool_segments_missing_total") == 2);
  CHECK(sample(text, "sluice_spool_segments_poisoned_total") == 1);
  CHECK(sample(text, "sluice_spool_keys_unwritten_total") == 2);
  CHECK(sample(text, "sluice_spool_keys_lost_total") == 1);
  CHECK(sample(text, "sluice_spool_times_full_total") == 1);
  CHECK(sample(text, "sluice_spool_sync_duration_seconds_bucket{le=\"0.0005\"}") == 0);
  CHECK(sample(text, "sluice_spool_sync_duration_seconds_bucket{le=\"0.001\"}") == 1);
  CHECK(sample(text, "sluice_spool_bytes") == 8192);
  CHECK(sample(text, "sluice_spool_segments") == 3);
  CHECK(sample(text, "sluice_producers") == 5);
}

TEST_CASE("metrics: a full spool is told with one of three reasons") {
  const auto shown = [](const std::string& why) {
    Fixture fixture;
    fixture.gauges.why_spool_full = [why] { return why; };
    const std::string text = fixture.text();
    std::string reasons;
    for (const char* reason : {"cap", "disk_full", "disk_failed"}) {
      const std::string series = "sluice_spool_full{reason=\"" + std::string(reason) + "\"}";
      if (sample(text, series) == 1) reasons += std::string(reason) + " ";
    }
    return reasons;
  };
  CHECK(shown("").empty());
  CHECK(shown("spool.bytes_max is reached") == "cap ");
  CHECK(shown("the disk is full") == "disk_full ");
  CHECK(shown("write: Input/output error") == "disk_failed ");
}

TEST_CASE("metrics: each event's way to the disk is counted in its bucket") {
  Fixture fixture;
  const std::vector<ReceivedGroup> block = {
      {kNowUs - 1'000, 3}, {kNowUs - 1'001, 4}, {kNowUs + 5, 1}};
  fixture.spool.block_durable(block, kNowUs);

  const std::string text = fixture.text();
  const std::string bucket = "sluice_receipt_to_durable_seconds_bucket";
  CHECK(sample(text, bucket + "{le=\"0.0005\"}") == 1);
  CHECK(sample(text, bucket + "{le=\"0.001\"}") == 4);
  CHECK(sample(text, bucket + "{le=\"0.0025\"}") == 8);
  CHECK(sample(text, "sluice_receipt_to_durable_seconds_sum") == Approx(3 * 0.001 + 4 * 0.001001));
}

TEST_CASE("metrics: each event's latency is counted in its bucket, a bound inclusive") {
  Fixture fixture;
  fixture.commit({{.received_us = kNowUs - 10'000, .events = 3},
                  {.received_us = kNowUs - 10'001, .events = 4},
                  {.received_us = kNowUs - 86'400'000'000, .events = 2},
                  {.received_us = kNowUs + 5'000'000, .events = 1}});

  const std::string text = fixture.text();
  const std::string bucket = "sluice_receipt_to_committed_seconds_bucket";
  CHECK(sample(text, bucket + "{le=\"0.001\"}") == 1);  // the clock was set back: no time passed
  CHECK(sample(text, bucket + "{le=\"0.01\"}") == 4);
  CHECK(sample(text, bucket + "{le=\"0.025\"}") == 8);
  CHECK(sample(text, bucket + "{le=\"43200\"}") == 8);
  CHECK(sample(text, bucket + "{le=\"+Inf\"}") == 10);
  CHECK(sample(text, "sluice_receipt_to_committed_seconds_count") == 10);
  CHECK(sample(text, "sluice_receipt_to_committed_seconds_sum") ==
        Approx(3 * 0.01 + 4 * 0.010001 + 2 * 86400.0));
}

TEST_CASE("metrics: a batch is counted with its rows, bytes and times") {
  Fixture fixture;
  fixture.commit({{.received_us = kNowUs, .events = 1000}});
  fixture.commit({{.received_us = kNowUs, .events = 2}});

  const std::string text = fixture.text();
  CHECK(sample(text, "sluice_batches_total") == 2);
  CHECK(sample(text, "sluice_copy_bytes_total") == 2000);
  CHECK(sample(text, "sluice_batch_rows_sum") == 1002);
  CHECK(sample(text, "sluice_batch_rows_bucket{le=\"3\"}") == 1);
  CHECK(sample(text, "sluice_copy_duration_seconds_sum") == Approx(0.006));
  CHECK(sample(text, "sluice_commit_duration_seconds_bucket{le=\"0.001\"}") == 2);
}

TEST_CASE("metrics: failures are counted by class, and a code nobody knows makes no new series") {
  Fixture fixture;
  const auto fail = [&](const std::string& sqlstate) {
    fixture.lanes.failed(0, "copy", {.sqlstate = sqlstate, .message = "", .column = ""}, 100ms);
  };
  const std::string before = fixture.text();
  fail("57P01");
  fail("57014");
  fail("");
  fail("\"}\n");
  fail("Z");
  fixture.lanes.held(1, "describe", {.sqlstate = "42P01", .message = "", .column = ""}, 30s);

  const std::string text = fixture.text();
  const auto failures = [&](const std::string& action, const std::string& sqlstate_class) {
    return sample(text, "sluice_failures_total{action=\"" + action + "\",sqlstate_class=\"" +
                            sqlstate_class + "\"}");
  };
  CHECK(failures("retry", "57") == 2);
  CHECK(failures("retry", "none") == 1);
  CHECK(failures("retry", "other") == 2);
  CHECK(failures("hold", "42") == 1);
  CHECK(std::count(text.begin(), text.end(), '\n') ==
        std::count(before.begin(), before.end(), '\n'));
}

TEST_CASE("metrics: lanes are counted by the state they are in") {
  Fixture fixture;
  fixture.lanes.state_changed(0, sink::LaneState::sending);
  fixture.lanes.state_changed(1, sink::LaneState::idle);
  fixture.lanes.state_changed(1, sink::LaneState::held);

  const std::string text = fixture.text();
  CHECK(sample(text, "sluice_lanes{state=\"connecting\"}") == 0);
  CHECK(sample(text, "sluice_lanes{state=\"sending\"}") == 1);
  CHECK(sample(text, "sluice_lanes{state=\"held\"}") == 1);
}

TEST_CASE("metrics: connections are those opened and not closed") {
  Fixture fixture;
  ingest::add(fixture.ingest.connections_opened, 5);
  ingest::add(fixture.ingest.connections_closed, 2);
  const std::string text = fixture.text();
  CHECK(sample(text, "sluice_connections") == 3);
  CHECK(sample(text, "sluice_connections_opened_total") == 5);
  CHECK(sample(text, "sluice_build_info{version=\"1.2.3\"}") == 1);
}

TEST_CASE("metrics: the kernel's numbers of this process are believable") {
  const ProcessStats stats = read_process_stats();
  const double now = static_cast<double>(LaneMetrics::wall_clock_us()) * 1e-6;
  CHECK(stats.start_time_seconds > now - 3600);
  CHECK(stats.start_time_seconds < now + 5);
  CHECK(stats.resident_bytes > 1 << 20);
  CHECK(stats.virtual_bytes >= stats.resident_bytes);
  CHECK(stats.max_fds >= stats.open_fds);

  std::FILE* file = std::fopen("/dev/null", "r");
  REQUIRE(file != nullptr);
  CHECK(read_process_stats().open_fds == stats.open_fds + 1);
  std::fclose(file);
}

}  // namespace
}  // namespace sluice::daemon
