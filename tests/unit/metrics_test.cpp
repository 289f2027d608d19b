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
          .events_in_spool = [] { return std::uint64_t{0}; },
          .oldest_event_age_seconds = [] { return 0.25; },
          .dedupe_keys = [] { return std::uint64_t{12}; },
          .dedupe_window_seconds = [] { return 600.0; }};
}

struct Fixture {
  ingest::IngestCounters ingest;
  LaneMetrics lanes{2, [] { return kNowUs; }};
  MetricsGauges gauges = fixed_gauges();

  [[nodiscard]] std::string text() const { return Metrics("1.2.3", ingest, lanes, gauges).text(); }

  void commit(std::vector<sink::CommittedGroup> groups) {
    sink::CommittedBatch batch{
        .events = 0, .bytes = 1000, .copy_time = 3ms, .commit_time = 700us, .groups = groups};
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
