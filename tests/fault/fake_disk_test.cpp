// The fake disk itself: what the tests that stand on it believe.
#include "tests/support/fake_disk.hpp"

#include <catch2/catch.hpp>
#include <string_view>

using namespace sluice::spool;
using sluice::tests::FakeDisk;

namespace {

Bytes bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::unique_ptr<DiskFile> open(FakeDisk& disk, const std::string& name, OpenMode mode) {
  auto opened = disk.open(name, mode);
  REQUIRE(std::holds_alternative<std::unique_ptr<DiskFile>>(opened));
  return std::move(std::get<0>(opened));
}

std::error_code put(DiskFile& file, std::uint64_t offset, std::string_view text) {
  return file.write(offset, std::vector<Bytes>{bytes_of(text)});
}

std::string content(const FakeDisk& disk, const std::string& name) {
  const auto bytes = disk.content(name);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::error_code failure(int number) {
  return {number, std::system_category()};
}

}  // namespace

TEST_CASE("fake disk: a crash of the process loses nothing that was written") {
  FakeDisk disk;
  const auto file = open(disk, "a", OpenMode::create);
  REQUIRE_FALSE(put(*file, 0, "abc"));
  disk.crash();
  CHECK(put(*file, 3, "d") == std::errc::io_error);
  disk.restart();
  CHECK(put(*file, 3, "d") == std::errc::io_error);  // a handle of the process that is gone
  CHECK(content(disk, "a") == "abc");
}

TEST_CASE("fake disk: a power cut leaves what was synced and nothing is sure of the rest") {
  std::set<std::string> seen;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    FakeDisk disk(seed);
    const auto file = open(disk, "a", OpenMode::create);
    REQUIRE_FALSE(put(*file, 0, "synced"));
    REQUIRE_FALSE(file->sync());
    REQUIRE_FALSE(disk.sync_directory(""));
    REQUIRE_FALSE(put(*file, 6, "new"));
    disk.power_cut();
    disk.restart();
    CHECK(content(disk, "a").substr(0, 6) == "synced");
    seen.insert(content(disk, "a").substr(6));
  }
  CHECK(seen.contains(""));
  CHECK(seen.contains("new"));
  CHECK(seen.contains("n"));
  CHECK(seen.contains(std::string(3, '\0')));
  CHECK(seen.size() > 10);  // garbage
}

TEST_CASE("fake disk: a name is sure to survive a power cut once its directory was synced") {
  int created = 0;
  int renamed = 0;
  int removed = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    FakeDisk disk(seed);
    REQUIRE_FALSE(disk.make_directory("d"));
    for (const char* name : {"kept", "moved", "gone"}) (void)open(disk, name, OpenMode::create);
    REQUIRE_FALSE(disk.sync_directory(""));
    (void)open(disk, "new", OpenMode::create);
    REQUIRE_FALSE(disk.rename("moved", "d/moved"));
    REQUIRE_FALSE(disk.sync_directory("d"));  // the other directory is not synced
    REQUIRE_FALSE(disk.remove("gone"));
    disk.power_cut();
    disk.restart();
    const auto list = disk.names();
    const std::set<std::string> names(list.begin(), list.end());
    CHECK(names.contains("kept"));
    CHECK(names.contains("moved") != names.contains("d/moved"));
    created += names.contains("new");
    renamed += names.contains("d/moved");
    removed += !names.contains("gone");
  }
  for (const int times : {created, renamed, removed}) {
    CHECK(times > 50);
    CHECK(times < 250);
  }
}

TEST_CASE("fake disk: what a failed sync has lost is not seen before the cache is dropped") {
  int lost = 0;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    FakeDisk disk(seed);
    const auto file = open(disk, "a", OpenMode::create);
    REQUIRE_FALSE(put(*file, 0, "abc"));
    disk.fault = [](FakeDisk::Call call, const std::string&) {
      return call == FakeDisk::Call::sync ? failure(EIO) : std::error_code{};
    };
    CHECK(file->sync() == std::errc::io_error);
    disk.fault = {};
    CHECK_FALSE(file->sync());
    CHECK(content(disk, "a") == "abc");
    REQUIRE_FALSE(put(*file, 3, "d"));
    file->drop_cache();
    CHECK(content(disk, "a").substr(3) == "d");
    const std::string rest = content(disk, "a").substr(0, 3);
    lost += rest != "abc";
    REQUIRE_FALSE(file->sync());
    REQUIRE_FALSE(disk.sync_directory(""));
    disk.power_cut();
    CHECK(content(disk, "a") == rest + "d");
  }
  CHECK(lost > 20);
  CHECK(lost < 80);
}

TEST_CASE("fake disk: truncated bytes come back only through a power cut") {
  FakeDisk disk;
  const auto file = open(disk, "a", OpenMode::create);
  REQUIRE_FALSE(put(*file, 0, "abcdef"));
  REQUIRE_FALSE(file->sync());
  REQUIRE_FALSE(disk.sync_directory(""));
  REQUIRE_FALSE(file->truncate(2));
  CHECK(content(disk, "a") == "ab");
  REQUIRE_FALSE(put(*file, 4, "E"));
  CHECK(content(disk, "a") == std::string("ab\0\0E", 5));
  REQUIRE_FALSE(file->sync());
  disk.power_cut();
  CHECK(content(disk, "a") == std::string("ab\0\0E", 5));
}

TEST_CASE("fake disk: a full disk takes nothing more, and has room again after a removal") {
  FakeDisk disk;
  disk.capacity_bytes = 8;
  const auto first = open(disk, "a", OpenMode::create);
  const auto second = open(disk, "b", OpenMode::create);
  REQUIRE_FALSE(first->allocate(6));
  CHECK(put(*second, 0, "abc") == std::errc::no_space_on_device);
  REQUIRE_FALSE(put(*first, 0, "abcdef"));  // what is allocated costs nothing more
  REQUIRE_FALSE(disk.remove("a"));
  CHECK_FALSE(put(*second, 0, "abc"));
  CHECK(disk.used_bytes() == 3);
}

TEST_CASE("fake disk: a write that fails has written any first part") {
  std::set<std::string> seen;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    FakeDisk disk(seed);
    const auto file = open(disk, "a", OpenMode::create);
    disk.fault = [](FakeDisk::Call, const std::string&) { return failure(ENOSPC); };
    CHECK(file->write(0, std::vector<Bytes>{bytes_of("a"), bytes_of("bc")}) ==
          std::errc::no_space_on_device);
    seen.insert(content(disk, "a"));
  }
  CHECK(seen == std::set<std::string>{"", "a", "ab", "abc"});
}

TEST_CASE("fake disk: the process dies in the call that it is told to") {
  FakeDisk disk;
  disk.kill_at = 3;
  const auto file = open(disk, "a", OpenMode::create);
  REQUIRE_FALSE(put(*file, 0, "abc"));
  CHECK_THROWS_AS(put(*file, 3, "def"), FakeDisk::ProcessKilled);
  CHECK(disk.rename("a", "b") == std::errc::io_error);
  disk.restart();
  CHECK(content(disk, "a").substr(0, 3) == "abc");
  CHECK_FALSE(disk.rename("a", "b"));
}

TEST_CASE("fake disk: a copy has the same files, and lives on its own") {
  FakeDisk disk;
  REQUIRE_FALSE(disk.make_directory("d"));
  REQUIRE_FALSE(put(*open(disk, "d/a", OpenMode::create), 0, "abc"));
  FakeDisk copy;
  copy.copy_from(disk);
  copy.power_cut();
  copy.restart();
  CHECK(content(copy, "d/a") == "abc");
  REQUIRE_FALSE(put(*open(copy, "d/a", OpenMode::read_write), 0, "x"));
  CHECK(content(disk, "d/a") == "abc");
  CHECK_FALSE(open(copy, "d/b", OpenMode::create) == nullptr);
}
