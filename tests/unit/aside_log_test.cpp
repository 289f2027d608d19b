// Set-aside records in their files, on a disk that forgets what was not synced.
#include "spool/aside_log.hpp"

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdio>
#include <optional>

#include "spool/aside_line.hpp"
#include "spool/crc32c.hpp"
#include "spool/purge_request.hpp"
#include "tests/support/fake_disk.hpp"

using namespace sluice::spool;
using sluice::tests::FakeDisk;

namespace {

const Uuid kSegment = Uuid::parse("01234567-89ab-cdef-0123-456789abcdef").value();
const Uuid kOther = Uuid::parse("11234567-89ab-cdef-0123-456789abcdef").value();

const Uuid kId = Uuid::parse("21234567-89ab-cdef-0123-456789abcdef").value();

AsideRecord record_of(std::uint64_t index, std::string_view line = R"({"n":1})") {
  return {.segment = kSegment,
          .index = index,
          .time_us = 1'767'225'600'123'456,
          .received_us = 1'767'225'599'000'000,
          .id = kId,
          .uid = 1000,
          .route = "tool.*",
          .type = "tool.call",
          .table = "events",
          .sqlstate = "23514",
          .message = "no \"way\"",
          .column = "n",
          .line = line};
}

std::string fmt_hex(std::uint32_t value) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "%08x", value);
  return text.data();
}

std::string text_of(const FakeDisk& disk, const std::string& name) {
  const auto bytes = disk.content(name);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::vector<std::uint64_t> indexes(AsideLog& log, const Position& from) {
  std::vector<std::uint64_t> found;
  const auto entries = log.records_from(from);
  for (const AsideEntry& entry : entries.value()) found.push_back(entry.index);
  return found;
}

using Indexes = std::vector<std::uint64_t>;

}  // namespace

TEST_CASE("aside log: a record is one line of JSON with all there is to know") {
  FakeDisk disk;
  AsideLog log({}, disk);
  REQUIRE(log.append(record_of(7, "{\"a\":\"\x01\t\\n\x7f\xC3\xA9\"}")));
  const std::string text = text_of(disk, "aside/dead-1.ndjson");
  const std::string rest =
      R"(,"state":"dead","segment":"01234567-89ab-cdef-0123-456789abcdef","index":7,)"
      R"("time":"2026-01-01T00:00:00.123456Z","received":"2025-12-31T23:59:59.000000Z",)"
      R"("id":"21234567-89ab-cdef-0123-456789abcdef","uid":1000,"route":"tool.*",)"
      R"("type":"tool.call","table":"events","sqlstate":"23514",)"
      R"("message":"no \"way\"","column":"n",)"
      R"("line":"{\"a\":\"\u0001\u0009\\n\u007f)"
      "\xC3\xA9"
      R"(\"}"})"
      "\n";
  CHECK(text.substr(0, 11) == R"({"crc32c":")");
  CHECK(text.substr(kAsideChecksumBytes) == rest);
}

TEST_CASE("aside log: a producer without a uid has null") {
  AsideRecord record = record_of(0);
  record.uid = kNoUid;
  CHECK(aside_line(record).find(R"("uid":null,)") != std::string::npos);
}

TEST_CASE("aside line: what is read back is what was written") {
  const AsideState state = GENERATE(AsideState::dead, AsideState::waiting, AsideState::held);
  const std::uint32_t uid = GENERATE(1000u, kNoUid);
  AsideRecord record = record_of(7, "{\"a\":\"\x01\t\\n\x7f\xC3\xA9\xff\"}");
  record.state = state;
  record.uid = uid;
  const std::string line = aside_line(record);
  const auto text = aside_text(line);
  REQUIRE(text);
  CHECK(text->state == state);
  CHECK(text->position == Position{kSegment, 7});
  CHECK(text->time_us == record.time_us);
  CHECK(text->received_us == record.received_us);
  CHECK(text->id == kId);
  CHECK(text->uid == uid);
  CHECK(text->type == "tool.call");
  CHECK(text->line == record.line);
  CHECK(aside_line(text->record()) == line);
  CHECK(aside_head(line).value().state == state);
  CHECK(aside_text(line.substr(0, line.size() - 1)));
  for (std::size_t at = 0; at < line.size() - 1; ++at) {
    std::string garbled = line;
    garbled[at] = static_cast<char>(garbled[at] ^ 1);
    CAPTURE(at);
    CHECK_FALSE(aside_text(garbled));
  }
}

TEST_CASE("aside line: lines of the first version are read") {
  const std::string line =
      R"({"crc32c":"CHECKSUM","state":"dead","segment":"01234567-89ab-cdef-0123-456789abcdef",)"
      R"("index":7,"time":"2026-01-01T00:00:00.123456Z","uid":1000,"table":"events",)"
      R"("sqlstate":"23514","message":"no","column":"n","line":"{}"})";
  Crc32c checksum;
  checksum.add(std::as_bytes(std::span(std::string_view(line).substr(kAsideChecksumBytes))));
  std::string whole = line;
  whole.replace(11, 8, fmt_hex(checksum.value()));
  const auto text = aside_text(whole);
  REQUIRE(text);
  CHECK(text->position == Position{kSegment, 7});
  CHECK(text->received_us == 0);
  CHECK_FALSE(text->id);
  CHECK(text->route.empty());
  CHECK(text->message == "no");
  CHECK(text->line == "{}");
  CHECK(aside_head(whole).value().sqlstate == "23514");
}

TEST_CASE("aside log: what was appended survives a power cut") {
  FakeDisk disk;
  {
    AsideLog log({}, disk);
    REQUIRE(log.append(record_of(3)));
    REQUIRE(log.append(record_of(5)));
  }
  disk.power_cut();
  disk.restart();
  AsideLog log({}, disk);
  CHECK(indexes(log, {kSegment, 0}) == Indexes{3, 5});
  CHECK(indexes(log, {kSegment, 4}) == Indexes{5});
  CHECK(indexes(log, {kOther, 0}).empty());
}

TEST_CASE("aside log: an earlier run's record is told with its reason, and as not yet durable") {
  FakeDisk disk;
  {
    AsideLog log({}, disk);
    REQUIRE(log.append(record_of(3)));
    CHECK(log.records_from({kSegment, 0}).value().at(0).durable);
  }
  AsideLog log({}, disk);
  const auto entries = log.records_from({kSegment, 0}).value();
  REQUIRE(entries.size() == 1);
  CHECK_FALSE(entries[0].durable);
  CHECK(entries[0].sqlstate == "23514");
  CHECK(entries[0].message == "no \"way\"");
  CHECK(entries[0].column == "n");

  REQUIRE(log.append(record_of(3)));  // into a file of this run's own
  CHECK(log.records_from({kSegment, 0}).value().at(0).durable);
  CHECK(text_of(disk, "aside/dead-1.ndjson") == text_of(disk, "aside/dead-2.ndjson"));
}

TEST_CASE("aside log: lines that a crash cut off or garbled are no records") {
  const std::string whole = aside_line(record_of(1)) + aside_line(record_of(2));
  const auto records_of = [](const std::string& content) {
    FakeDisk disk;
    (void)disk.make_directory("aside");
    disk.set_content("aside/dead-4.ndjson", std::as_bytes(std::span(content)));
    AsideLog log({}, disk);
    return indexes(log, {kSegment, 0});
  };
  REQUIRE(records_of(whole) == Indexes{1, 2});
  const std::size_t first_end = whole.find('\n') + 1;
  for (std::size_t cut = 0; cut < whole.size(); ++cut) {
    CAPTURE(cut);
    CHECK(records_of(whole.substr(0, cut)) == (cut >= first_end ? Indexes{1} : Indexes{}));
  }
  for (std::size_t at = 0; at < first_end; ++at) {
    std::string garbled = whole;
    garbled[at] = static_cast<char>(garbled[at] ^ 0x41);
    CAPTURE(at);
    const Indexes found = records_of(garbled);
    // The newline that holds the two apart takes both with it.
    CHECK((found == Indexes{2} || (at == first_end - 1 && found.empty())));
  }
}

TEST_CASE("aside log: long lines are found again, whole") {
  FakeDisk disk;
  const std::string line(700'000, 'x');
  {
    AsideLog log({}, disk);
    REQUIRE(log.append(record_of(1, line)));
    REQUIRE(log.append(record_of(2, line)));
    REQUIRE(log.append(record_of(3)));
  }
  AsideLog log({}, disk);
  CHECK(indexes(log, {kSegment, 0}) == Indexes{1, 2, 3});
}

TEST_CASE("aside log: a failed sync poisons the file, and the record goes to another") {
  FakeDisk disk;
  AsideLog log({}, disk);
  REQUIRE(log.append(record_of(1)));
  int syncs = 0;
  disk.fault = [&](FakeDisk::Call call, const std::string&) {
    const bool fails = call == FakeDisk::Call::sync && ++syncs == 1;
    return fails ? std::make_error_code(std::errc::io_error) : std::error_code();
  };
  REQUIRE(log.append(record_of(2)));
  REQUIRE(log.append(record_of(3)));
  disk.power_cut();
  disk.restart();
  AsideLog after({}, disk);
  CHECK(indexes(after, {kSegment, 0}) == Indexes{1, 2, 3});
  // Nothing came behind the failed sync in the first file.
  CHECK(text_of(disk, "aside/dead-2.ndjson") ==
        aside_line(record_of(2)) + aside_line(record_of(3)));
}

TEST_CASE("aside log: what the disk does not take is refused, and taken later") {
  FakeDisk disk;
  AsideLog log({}, disk);
  REQUIRE(log.append(record_of(1)));
  bool full = true;
  disk.fault = [&](FakeDisk::Call call, const std::string&) {
    const bool fails = full && call == FakeDisk::Call::write;
    return fails ? std::make_error_code(std::errc::no_space_on_device) : std::error_code();
  };
  CHECK_FALSE(log.append(record_of(2)));
  CHECK_FALSE(log.append(record_of(2)));
  full = false;
  REQUIRE(log.append(record_of(2)));
  CHECK(text_of(disk, "aside/dead-1.ndjson") ==
        aside_line(record_of(1)) + aside_line(record_of(2)));
}

TEST_CASE("aside log: any call that fails is refused or made good, and never half") {
  for (int failing = 1; failing < 30; ++failing) {
    CAPTURE(failing);
    FakeDisk disk(static_cast<std::uint64_t>(failing));
    int calls = 0;
    disk.fault = [&](FakeDisk::Call, const std::string&) {
      return ++calls == failing ? std::make_error_code(std::errc::io_error) : std::error_code();
    };
    Indexes taken;
    {
      AsideLog log({}, disk);
      for (std::uint64_t index = 0; index < 4; ++index) {
        if (log.append(record_of(index)) || log.append(record_of(index))) taken.push_back(index);
      }
    }
    CHECK(taken == Indexes{0, 1, 2, 3});
    disk.fault = {};
    disk.power_cut();
    disk.restart();
    AsideLog after({}, disk);
    CHECK(indexes(after, {kSegment, 0}) == taken);
  }
}

TEST_CASE("aside log: at its cap it takes no more") {
  FakeDisk disk;
  const std::size_t bytes = aside_line(record_of(1)).size();
  AsideLog log({.bytes_max = 2 * bytes}, disk);
  CHECK(log.append(record_of(1)));
  CHECK(log.append(record_of(2)));
  CHECK_FALSE(log.append(record_of(3)));
  AsideLog after({.bytes_max = 2 * bytes}, disk);
  CHECK_FALSE(after.append(record_of(3)));
  SECTION("a greater cap gives room") {
    AsideLog larger({.bytes_max = 4 * bytes}, disk);
    CHECK(larger.append(record_of(3)));
  }
  SECTION("so do files that somebody took away") {
    REQUIRE_FALSE(disk.remove("aside/dead-1.ndjson"));
    CHECK(after.append(record_of(3)));
  }
}

TEST_CASE("aside log: without sync it syncs nothing") {
  FakeDisk disk;
  int syncs = 0;
  disk.fault = [&](FakeDisk::Call call, const std::string&) {
    syncs += call == FakeDisk::Call::sync || call == FakeDisk::Call::sync_directory;
    return std::error_code();
  };
  AsideLog log({.sync = false}, disk);
  CHECK(log.append(record_of(1)));
  CHECK(syncs == 0);
}

TEST_CASE("aside log: other files in its directory are left alone") {
  FakeDisk disk;
  (void)disk.make_directory("aside");
  const std::string text = aside_line(record_of(9));
  for (const char* name : {"aside/dead-.ndjson", "aside/dead-x.ndjson", "aside/held-1.ndjson"}) {
    disk.set_content(name, std::as_bytes(std::span(text)));
  }
  AsideLog log({}, disk);
  CHECK(indexes(log, {kSegment, 0}).empty());
  REQUIRE(log.append(record_of(1)));
  CHECK(text_of(disk, "aside/held-1.ndjson") == text);
}

namespace {

// A log whose time a test moves on.
class Bench {
 public:
  explicit Bench(std::uint64_t bytes_max = 1u << 20) : bytes_max_(bytes_max) { restart(); }
  void restart() {
    log_.reset();
    log_.emplace(AsideLogOptions{.bytes_max = bytes_max_,
                                 .file_bytes = 1'000,
                                 .retain_time = std::chrono::seconds(900),
                                 .steady_now_s = [this] { return now_s; }},
                 disk);
  }
  AsideLog& log() { return *log_; }
  void append(std::uint64_t index, AsideState state = AsideState::dead) {
    AsideRecord record = record_of(index);
    record.state = state;
    REQUIRE(log_->append(record));
  }
  // Long enough that all that is done with is taken out.
  void tend() {
    now_s += 100;
    for (int i = 0; i < 1'000 && log_->tend(); ++i) {
    }
  }
  Indexes to_try() {
    Indexes found;
    for (const AsideTry& each : log_->to_try({}, 1'000)) found.push_back(each.position.index);
    return found;
  }
  // What another process finds.
  Indexes in_files() {
    AsideLog other({}, disk);
    return indexes(other, {kSegment, 0});
  }

  FakeDisk disk;
  std::int64_t now_s = 1'000;

 private:
  const std::uint64_t bytes_max_;
  std::optional<AsideLog> log_;
};

constexpr std::uint64_t kMany = 20;

}  // namespace

TEST_CASE("aside log: what waits or is held is to be tried, in the order in which it came") {
  Bench bench;
  bench.append(5, AsideState::waiting);
  bench.append(3, AsideState::held);
  bench.append(4, AsideState::dead);
  bench.append(2, AsideState::waiting);
  CHECK(bench.to_try() == Indexes{5, 3, 2});
  const auto first = bench.log().to_try({}, 1);
  REQUIRE(first.size() == 1);
  CHECK(first[0].state == AsideState::waiting);
  CHECK(bench.log().to_try(first[0].place, 10).size() == 2);
  bench.append(5, AsideState::dead);  // its time is over
  CHECK(bench.to_try() == Indexes{3, 2});
  bench.restart();
  CHECK(bench.to_try() == Indexes{3, 2});
  const auto text = bench.log().read({kSegment, 3});
  REQUIRE(text);
  CHECK(text->line == R"({"n":1})");
  CHECK(text->state == AsideState::held);
}

TEST_CASE("aside log: what was delivered is tried no more, unless the database forgets it") {
  Bench bench;
  for (std::uint64_t i = 0; i < 4; ++i) bench.append(i, AsideState::held);
  bench.log().delivered({kSegment, 1});
  bench.log().delivered({kSegment, 2});
  CHECK(bench.to_try() == Indexes{0, 3});
  REQUIRE(bench.log().redelivered().size() == 1);
  CHECK(bench.log().redelivered()[0].rows == 2);
  const Indexes there = {1, 3};  // 3 by somebody else
  CHECK(bench.log().found_redelivered(kSegment, there) == 1);
  CHECK(bench.to_try() == Indexes{0, 2});
  CHECK(bench.log().redelivered()[0].rows == 2);
}

TEST_CASE("aside log: a dead record that was delivered and then lost is tried again") {
  Bench bench;
  bench.append(1);
  const Indexes there = {1};
  CHECK(bench.log().found_redelivered(kSegment, there) == 0);
  CHECK(bench.to_try().empty());
  CHECK(bench.log().found_redelivered(kSegment, {}) == 1);
  CHECK(bench.to_try() == Indexes{1});
}

TEST_CASE("aside log: delivered records are kept for the retain time, and then taken out") {
  Bench bench;
  for (std::uint64_t i = 0; i < kMany; ++i) bench.append(i, AsideState::held);
  for (std::uint64_t i = 0; i < kMany; i += 2) bench.log().delivered({kSegment, i});
  bench.tend();
  CHECK(bench.in_files().size() == kMany);
  bench.now_s += 900;
  bench.tend();
  Indexes odd;
  for (std::uint64_t i = 1; i < kMany; i += 2) odd.push_back(i);
  CHECK(bench.in_files() == odd);
  CHECK(bench.to_try() == odd);
  for (const std::uint64_t index : odd) {
    CHECK(bench.log().read({kSegment, index}).value().position.index == index);
  }
  bench.append(100, AsideState::held);
  odd.push_back(100);
  CHECK(bench.in_files() == odd);
  for (const std::uint64_t index : odd) bench.log().delivered({kSegment, index});
  bench.now_s += 900;
  bench.tend();
  CHECK(bench.in_files().empty());
  for (const std::string& name : bench.disk.names()) CHECK_FALSE(name.starts_with("aside/"));
}

TEST_CASE("aside log: files that are nearly full let go of what was delivered at once") {
  const std::size_t bytes = aside_line(record_of(1)).size();
  Bench bench(10 * bytes + bytes / 2);
  for (std::uint64_t i = 0; i < 10; ++i) bench.append(i, AsideState::held);
  CHECK_FALSE(bench.log().append(record_of(10)));
  CHECK(bench.log().gauges().full);
  bench.log().delivered({kSegment, 4});
  bench.tend();
  CHECK(bench.log().append(record_of(10)));
  CHECK_FALSE(bench.log().gauges().full);
}

TEST_CASE("aside log: a request to purge is done whole, whatever call fails or kills") {
  for (const bool power_cut : {false, true}) {
    for (std::uint64_t call = 1; call < 120; ++call) {
      CAPTURE(power_cut, call);
      Bench bench;
      for (std::uint64_t i = 0; i < kMany; ++i) bench.append(i, AsideState::waiting);
      // The later record counts, and the older one must not come to light again.
      for (std::uint64_t i = 0; i < kMany; ++i) bench.append(i);
      const std::vector<Position> purged{{kSegment, 2}, {kSegment, 3}, {kSegment, 17}, {kOther, 1}};
      std::string name;
      REQUIRE_FALSE(write_purge_request(bench.disk, purged, name));
      bench.disk.kill_at = bench.disk.calls() + call;
      bool was_killed = false;
      try {
        bench.tend();
      } catch (const FakeDisk::ProcessKilled&) {
        was_killed = true;
      }
      if (power_cut) {
        bench.disk.power_cut();
      } else {
        bench.disk.crash();
      }
      bench.disk.restart();
      bench.restart();
      CHECK(bench.in_files().size() >= kMany - 3);
      bench.tend();
      const Indexes left = bench.in_files();
      CHECK(left.size() == kMany - 3);
      for (const std::uint64_t index : {2, 3, 17}) {
        CHECK_FALSE(std::binary_search(left.begin(), left.end(), index));
      }
      CHECK(bench.to_try().empty());
      const auto names = bench.disk.names();
      CHECK(std::find(names.begin(), names.end(), name) == names.end());
      if (!was_killed) break;
      CHECK(call < 119);
    }
  }
}

TEST_CASE("aside log: an error while files are written anew loses nothing") {
  for (int failing = 1; failing < 60; ++failing) {
    CAPTURE(failing);
    Bench bench;
    for (std::uint64_t i = 0; i < kMany; ++i) bench.append(i, AsideState::held);
    const std::vector<Position> purged{{kSegment, 2}, {kSegment, 17}};
    bench.log().purge(purged);
    int calls = 0;
    bench.disk.fault = [&](FakeDisk::Call, const std::string&) {
      return ++calls == failing ? std::make_error_code(std::errc::io_error) : std::error_code();
    };
    bench.tend();
    bench.disk.fault = {};
    bench.tend();
    CHECK(bench.in_files().size() == kMany - 2);
    CHECK(bench.to_try().size() == kMany - 2);
    for (const std::uint64_t index : bench.to_try()) {
      CHECK(bench.log().read({kSegment, index}).value().position.index == index);
    }
  }
}

TEST_CASE("aside log: what waits and is held is counted by its state") {
  Bench bench;
  bench.append(1, AsideState::waiting);
  bench.append(2, AsideState::held);
  bench.append(3, AsideState::held);
  bench.append(4);
  bench.log().delivered({kSegment, 3});
  bench.tend();
  const AsideGauges& gauges = bench.log().gauges();
  CHECK(gauges.records[0] == 1);
  CHECK(gauges.records[1] == 1);
  CHECK(gauges.records[2] == 1);
  CHECK(gauges.delivered == 1);
  CHECK(gauges.bytes > 0);
}
