// The spool's directory on a real file system, in a temporary directory.
#include "spool/posix_disk.hpp"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>

using namespace sluice::spool;

namespace {

class TemporaryDirectory final {
 public:
  TemporaryDirectory() {
    std::string pattern = std::filesystem::temp_directory_path() / "sluice-disk-XXXXXX";
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

struct Fixture {
  TemporaryDirectory directory;
  PosixDisk disk{directory.path()};

  std::unique_ptr<DiskFile> open(const std::string& name, OpenMode mode) {
    auto opened = disk.open(name, mode);
    if (auto* file = std::get_if<0>(&opened)) return std::move(*file);
    FAIL(name << ": " << std::get<1>(opened).message());
    return nullptr;
  }
  std::error_code failure_to_open(const std::string& name, OpenMode mode) {
    auto opened = disk.open(name, mode);
    REQUIRE(std::holds_alternative<std::error_code>(opened));
    return std::get<1>(opened);
  }
};

Bytes bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string read_all(DiskFile& file, std::uint64_t offset = 0) {
  std::string text(1 << 20, '\0');
  std::size_t got = 0;
  REQUIRE_FALSE(file.read(offset, std::as_writable_bytes(std::span(text)), got));
  text.resize(got);
  return text;
}

}  // namespace

TEST_CASE("posix disk: pieces are written one after the other from the offset on") {
  Fixture f;
  const auto file = f.open("a", OpenMode::create);
  const std::vector<Bytes> pieces{bytes_of("one"), bytes_of(""), bytes_of("two")};
  REQUIRE_FALSE(file->write(0, pieces));
  REQUIRE_FALSE(file->write(3, std::vector<Bytes>{bytes_of("2")}));
  CHECK(read_all(*file) == "one2wo");
  CHECK(read_all(*file, 4) == "wo");
  CHECK(read_all(*file, 6).empty());
}

TEST_CASE("posix disk: more pieces than one system call takes are all written") {
  Fixture f;
  const auto file = f.open("a", OpenMode::create);
  std::string expected;
  std::vector<std::string> texts;
  for (int i = 0; i < 2 * IOV_MAX + 7; ++i) texts.push_back(std::to_string(i) + ",");
  std::vector<Bytes> pieces;
  for (const std::string& text : texts) {
    pieces.push_back(bytes_of(text));
    expected += text;
  }
  REQUIRE_FALSE(file->write(0, pieces));
  CHECK(read_all(*file) == expected);
}

TEST_CASE("posix disk: a short write goes on, and its error is told") {
  Fixture f;
  const auto file = f.open("a", OpenMode::create);
  // Past the limit the kernel writes what fits first and fails then.
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto old_handler = ::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{5000, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &limit) == 0);
  const std::string text(3000, 'x');
  const std::error_code error =
      file->write(0, std::vector<Bytes>{bytes_of(text), bytes_of(text), bytes_of(text)});
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  ::signal(SIGXFSZ, old_handler);
  CHECK(error == std::errc::file_too_large);
  CHECK(read_all(*file) == std::string(5000, 'x'));
}

TEST_CASE("posix disk: create takes a new name, mode 0600, and opens no other file") {
  Fixture f;
  f.open("a", OpenMode::create);
  struct stat status;
  REQUIRE(::stat((f.directory / "a").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0600);
  CHECK(f.failure_to_open("a", OpenMode::create) == std::errc::file_exists);
  CHECK(f.failure_to_open("b", OpenMode::read_write) == std::errc::no_such_file_or_directory);
  CHECK(f.failure_to_open("b", OpenMode::read_only) == std::errc::no_such_file_or_directory);
}

TEST_CASE("posix disk: a file is not inherited and no symbolic link is followed") {
  Fixture f;
  std::ofstream(f.directory / "target") << "secret";
  REQUIRE(::symlink((f.directory / "target").c_str(), (f.directory / "link").c_str()) == 0);
  CHECK(f.failure_to_open("link", OpenMode::read_only) == std::errc::too_many_symbolic_link_levels);
  const int next_fd = ::dup(0);
  ::close(next_fd);
  const auto file = f.open("target", OpenMode::read_only);
  CHECK((::fcntl(next_fd, F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("posix disk: truncate, allocate, size, sync and drop_cache leave what was written") {
  Fixture f;
  const auto file = f.open("a", OpenMode::create);
  std::uint64_t bytes = 0;
  REQUIRE_FALSE(file->write(0, std::vector<Bytes>{bytes_of("0123456789")}));
  REQUIRE_FALSE(file->truncate(5));
  REQUIRE_FALSE(file->sync());
  file->drop_cache();
  CHECK(read_all(*file) == "01234");
  REQUIRE_FALSE(file->allocate(100'000));
  REQUIRE_FALSE(file->size(bytes));
  CHECK(bytes == 100'000);
  CHECK(read_all(*file).substr(0, 6) == std::string("01234\0", 6));
  struct stat status;
  REQUIRE(::stat((f.directory / "a").c_str(), &status) == 0);
  CHECK(status.st_blocks * 512 >= 100'000);
}

TEST_CASE("posix disk: an error of the file system is told as such") {
  Fixture f;
  const auto file = f.open("a", OpenMode::create);
  const auto read_only = f.open("a", OpenMode::read_only);
  CHECK(read_only->write(0, std::vector<Bytes>{bytes_of("x")}) == std::errc::bad_file_descriptor);
  CHECK(read_only->truncate(0) == std::errc::invalid_argument);
  CHECK(f.disk.sync_directory("nowhere") == std::errc::no_such_file_or_directory);
  CHECK(f.disk.rename("nothing", "a") == std::errc::no_such_file_or_directory);
  CHECK(f.disk.remove("nothing") == std::errc::no_such_file_or_directory);
  CHECK(f.disk.make_directory("a") == std::errc::not_a_directory);
  CHECK_THROWS_AS(PosixDisk(f.directory / "a"), std::system_error);
}

TEST_CASE("posix disk: directories are made once, listed, synced, and files moved between them") {
  Fixture f;
  REQUIRE_FALSE(f.disk.make_directory("quarantine"));
  REQUIRE_FALSE(f.disk.make_directory("quarantine"));
  struct stat status;
  REQUIRE(::stat((f.directory / "quarantine").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0700);

  REQUIRE_FALSE(f.open("a", OpenMode::create)->write(0, std::vector<Bytes>{bytes_of("abc")}));
  f.open("b", OpenMode::create);
  REQUIRE_FALSE(f.disk.rename("a", "quarantine/c"));
  REQUIRE_FALSE(f.disk.remove("b"));
  REQUIRE_FALSE(f.disk.sync_directory(""));
  REQUIRE_FALSE(f.disk.sync_directory("quarantine"));

  std::vector<DirectoryEntry> entries;
  REQUIRE_FALSE(f.disk.list("", entries));
  REQUIRE(entries.size() == 1);
  CHECK(entries[0].name == "quarantine");
  CHECK_FALSE(entries[0].is_file);
  REQUIRE_FALSE(f.disk.list("quarantine", entries));
  REQUIRE(entries.size() == 1);
  CHECK(entries[0].name == "c");
  CHECK(entries[0].bytes == 3);
  CHECK(entries[0].is_file);
}
