// Refused lines in their files: what is kept, what is only counted, and what becomes of the files.
#include "spool/reject_log.hpp"

#include <catch2/catch.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "spool/aside_line.hpp"
#include "spool/reject_purge.hpp"
#include "tests/support/fake_disk.hpp"

using namespace sluice::spool;
using sluice::tests::FakeDisk;

namespace {

const Uuid kRun = Uuid::parse("01234567-89ab-cdef-0123-456789abcdef").value();
constexpr std::int64_t kReceivedUs = 1'767'225'600'123'456;

RejectedLine rejected(std::string_view line, std::uint64_t number = 1) {
  return {"syntax", kReceivedUs, 1000, 7, number, line.size(), line};
}

// The records of a file, in their order.
std::vector<AsideText> records_in(const FakeDisk& disk, std::uint32_t file) {
  const auto bytes = disk.content(reject_file_name(file));
  std::istringstream text({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  std::vector<AsideText> records;
  for (std::string line; std::getline(text, line);) {
    records.push_back(aside_text(line).value());
  }
  return records;
}

}  // namespace

TEST_CASE("reject log: a line is kept with its code, byte for byte") {
  FakeDisk disk;
  RejectLog log({}, disk, kRun);
  const std::string line("{\"a\":\"\x01\xff\\\"\0x", 12);
  log.keep(rejected(line, 3));
  log.keep({"too_long", kReceivedUs, kNoUid, 8, 1, 0, ""});
  CHECK(log.kept() == 0);
  log.write(0);

  const auto records = records_in(disk, 1);
  REQUIRE(records.size() == 2);
  CHECK(records[0].state == AsideState::rejected);
  CHECK(records[0].position == Position{kRun, 0});
  CHECK(records[0].received_us == kReceivedUs);
  CHECK(records[0].uid == 1000);
  CHECK(records[0].sqlstate == "syntax");
  CHECK(records[0].message == "line 3 of connection 7, 12 bytes");
  CHECK(records[0].line == line);
  CHECK(records[1].position == Position{kRun, 1});
  CHECK(records[1].uid == kNoUid);
  CHECK(records[1].message == "line 1 of connection 8");
  CHECK(records[1].line.empty());
  CHECK(log.kept() == 2);
  CHECK(log.bytes() == disk.content(reject_file_name(1)).size());
}

TEST_CASE("reject log: nothing touches the disk until something is written") {
  FakeDisk disk;
  RejectLog log({}, disk, kRun);
  log.write(0);
  log.keep(rejected("x"));
  CHECK(disk.calls() == 0);
}

TEST_CASE("reject log: what waits is bounded, but for a single long line") {
  FakeDisk disk;
  RejectLogOptions options;
  options.pending_bytes_max = 1'000;
  RejectLog log(options, disk, kRun);
  const std::string line(5'000, 'x');
  log.keep(rejected(line));
  log.keep(rejected("x"));
  log.write(0);
  CHECK(log.kept() == 1);
  CHECK(log.unkept() == 1);
  log.keep(rejected("x"));
  log.write(1);
  CHECK(log.kept() == 2);
}

TEST_CASE("reject log: at the cap lines are counted, until files are taken away") {
  FakeDisk disk;
  std::vector<bool> told;
  RejectLogOptions options;
  options.bytes_max = 3'000;
  options.file_bytes = 1'000;
  options.on_full = [&](bool full) { told.push_back(full); };
  RejectLog log(options, disk, kRun);
  std::int64_t now_ms = 0;
  for (int i = 0; i < 40; ++i) {
    log.keep(rejected("some line"));
    log.write(now_ms += 100);
  }
  CHECK(log.kept() + log.unkept() == 40);
  CHECK(log.unkept() > 0);
  CHECK(log.bytes() <= options.bytes_max);
  CHECK(told == std::vector<bool>{true});
  CHECK(disk.names().size() >= 3);

  const std::uint64_t kept = log.kept();
  for (const std::string& name : disk.names()) REQUIRE_FALSE(disk.remove(name));
  log.write(now_ms += 1'000);
  CHECK(told == std::vector<bool>{true, false});
  log.keep(rejected("some line"));
  log.write(now_ms);
  CHECK(log.kept() == kept + 1);
  REQUIRE(disk.names().size() == 1);
}

TEST_CASE("reject log: a file that was taken away is not written to any more") {
  FakeDisk disk;
  RejectLog log({}, disk, kRun);
  log.keep(rejected("a"));
  log.write(0);
  REQUIRE_FALSE(disk.remove(reject_file_name(1)));
  log.keep(rejected("b"));
  log.write(1'000);
  CHECK(records_in(disk, 2).at(0).line == "b");
}

TEST_CASE("reject log: files of earlier runs count, and stay as they are") {
  FakeDisk disk;
  RejectLogOptions options;
  options.bytes_max = 1'000;
  {
    RejectLog log(options, disk, kRun);
    for (int i = 0; i < 10; ++i) log.keep(rejected("of the first run"));
    log.write(0);
  }
  const auto before = disk.content(reject_file_name(1));
  RejectLog log(options, disk, Uuid::random());
  for (int i = 0; i < 10; ++i) log.keep(rejected("of the second"));
  log.write(0);
  CHECK(disk.content(reject_file_name(1)) == before);
  CHECK(log.bytes() <= options.bytes_max);
  CHECK(log.unkept() > 0);
}

TEST_CASE("reject log: a disk that fails costs the lines, and the next go to another file") {
  FakeDisk disk;
  RejectLog log({}, disk, kRun);
  log.keep(rejected("a"));
  log.write(0);
  disk.fault = [](FakeDisk::Call call, const std::string&) {
    return call == FakeDisk::Call::write ? std::make_error_code(std::errc::no_space_on_device)
                                         : std::error_code();
  };
  log.keep(rejected("b"));
  log.write(1);
  disk.fault = nullptr;
  log.keep(rejected("c"));
  log.write(2);
  CHECK(log.kept() == 2);
  CHECK(log.unkept() == 1);
  CHECK(records_in(disk, 2).at(0).line == "c");
}

TEST_CASE("reject log: a cap of nothing keeps nothing") {
  FakeDisk disk;
  RejectLogOptions options;
  options.bytes_max = 0;
  RejectLog log(options, disk, kRun);
  log.keep(rejected("a"));
  log.write(0);
  CHECK(log.unkept() == 1);
  CHECK(disk.calls() == 0);
}

TEST_CASE("reject log: asked to let go of its file, it never writes to it again") {
  FakeDisk disk;
  RejectLog log({}, disk, kRun);
  log.keep(rejected("a"));
  log.write(0);
  REQUIRE_FALSE(ask_to_let_go_of_rejects(disk));
  REQUIRE_FALSE(ask_to_let_go_of_rejects(disk));
  log.write(1'000);  // although there is nothing to write
  CHECK(disk.names() == std::vector<std::string>{reject_file_name(1)});
  log.keep(rejected("b"));
  log.write(1'001);
  CHECK(records_in(disk, 1).size() == 1);
  CHECK(records_in(disk, 2).at(0).line == "b");
}

TEST_CASE("reject log: lines that are purged are gone, and their bytes with them") {
  FakeDisk disk;
  RejectLog log({}, disk, kRun);
  for (const char* line : {"a", "b", "c"}) log.keep(rejected(line));
  log.write(0);
  const std::uint64_t bytes = log.bytes();
  REQUIRE_FALSE(ask_to_let_go_of_rejects(disk));
  log.write(1'000);
  std::size_t purged = 0;
  REQUIRE_FALSE(purge_reject_file(disk, 1, {{kRun, 0}, {kRun, 2}, {kRun, 7}}, purged));
  CHECK(purged == 2);
  REQUIRE(records_in(disk, 1).size() == 1);
  CHECK(records_in(disk, 1).at(0).line == "b");
  log.write(2'000);
  CHECK(log.bytes() == bytes / 3);
  REQUIRE_FALSE(purge_reject_file(disk, 1, {{kRun, 1}}, purged));
  CHECK(purged == 3);
  CHECK(disk.names().empty());
  log.write(3'000);
  CHECK(log.bytes() == 0);
}

TEST_CASE("reject log: a purge that fails leaves the file as it was") {
  for (const auto failing : {FakeDisk::Call::write, FakeDisk::Call::sync, FakeDisk::Call::rename}) {
    FakeDisk disk;
    RejectLog log({}, disk, kRun);
    for (const char* line : {"a", "b"}) log.keep(rejected(line));
    log.write(0);
    disk.fault = [&](FakeDisk::Call call, const std::string&) {
      return call == failing ? std::make_error_code(std::errc::io_error) : std::error_code();
    };
    std::size_t purged = 0;
    CHECK(purge_reject_file(disk, 1, {{kRun, 0}}, purged));
    CHECK(purged == 0);
    CHECK(records_in(disk, 1).size() == 2);
    CHECK(disk.names().size() == 1);
  }
}
