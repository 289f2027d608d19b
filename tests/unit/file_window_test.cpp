// The window that slides over a spool file.
#include <catch2/catch.hpp>

#include <algorithm>
#include <string>
#include <system_error>
#include <vector>

#include "spool/segment_scan.hpp"

namespace sluice::spool {
namespace {

constexpr std::size_t kWindowBytes = 128;
constexpr std::size_t kFileBytes = 1'000'000;

// A file whose n-th byte is n % 251, and that counts what is read of it.
class CountingFile final : public DiskFile {
 public:
  explicit CountingFile(std::size_t bytes) : bytes_(bytes) {}

  std::error_code read(std::uint64_t offset, std::span<std::byte> into, std::size_t& got) override {
    if (fails) return std::make_error_code(std::errc::io_error);
    got = offset >= bytes_ ? 0 : std::min<std::size_t>(into.size(), bytes_ - offset);
    for (std::size_t i = 0; i < got; ++i) into[i] = byte_at(offset + i);
    bytes_read += got;
    return {};
  }
  std::error_code write(std::uint64_t, std::span<const Bytes>) override { return {}; }
  std::error_code sync() override { return {}; }
  std::error_code truncate(std::uint64_t) override { return {}; }
  std::error_code allocate(std::uint64_t) override { return {}; }
  std::error_code size(std::uint64_t& bytes) override {
    bytes = bytes_;
    return {};
  }
  void drop_cache() override {}

  static std::byte byte_at(std::uint64_t offset) { return static_cast<std::byte>(offset % 251); }

  std::size_t bytes_read = 0;
  bool fails = false;

 private:
  const std::size_t bytes_;
};

bool are_of(Bytes bytes, std::uint64_t offset) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [&offset](std::byte byte) { return byte == CountingFile::byte_at(offset++); });
}

}  // namespace

TEST_CASE("file window: a walk over blocks of any size reads each byte once") {
  // Smaller than the window, about as large, several times as large; then small ones again.
  const std::vector<std::size_t> sizes = {8, 40, 120, 128, 136, 300, 2'500, 300, 9'000, 16, 8, 16};
  for (const std::size_t first : sizes) {
    CountingFile file(kFileBytes);
    FileWindow window(file, kWindowBytes);
    std::uint64_t offset = 0;
    for (int round = 0; round < 4; ++round) {
      for (const std::size_t size : sizes) {
        const std::size_t bytes = round == 0 ? first : size;
        const Bytes head = window.at(offset, 8, kFileBytes);
        REQUIRE(head.size() == 8);
        CHECK(are_of(head, offset));
        const Bytes whole = window.at(offset, bytes, kFileBytes);
        REQUIRE(whole.size() == bytes);
        CHECK(are_of(whole, offset));
        offset += bytes;
      }
    }
    CHECK(file.bytes_read >= offset);
    CHECK(file.bytes_read <= offset + kWindowBytes);
  }
}

TEST_CASE(
    "file window: nothing behind the limit of a call is seen, and what follows is read later") {
  CountingFile file(1'000);
  FileWindow window(file, kWindowBytes);
  CHECK(window.at(0, 64, 50).size() == 50);
  CHECK(file.bytes_read == 50);
  const Bytes more = window.at(30, 60, 90);
  CHECK(more.size() == 60);
  CHECK(are_of(more, 30));
  CHECK(file.bytes_read == 90);
  CHECK(window.at(90, 10, 90).empty());
  CHECK(window.at(990, 64, 2'000).size() == 10);
}

TEST_CASE("file window: it can go back") {
  CountingFile file(10'000);
  FileWindow window(file, kWindowBytes);
  CHECK(are_of(window.at(5'000, 300, 10'000), 5'000));
  CHECK(are_of(window.at(4'950, 300, 10'000), 4'950));
  CHECK(are_of(window.at(0, 10, 10'000), 0));
}

TEST_CASE("file window: what cannot be read is missing, and is read when it can be") {
  CountingFile file(10'000);
  FileWindow window(file, kWindowBytes);
  CHECK(window.at(0, 100, 10'000).size() == 100);
  file.fails = true;
  CHECK(window.at(100, 200, 10'000).size() < 200);
  file.fails = false;
  const Bytes bytes = window.at(100, 200, 10'000);
  CHECK(bytes.size() == 200);
  CHECK(are_of(bytes, 100));
}

}  // namespace sluice::spool
