// What is too long for a name goes into a hash.
#include "daemon/producer_name.hpp"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <random>
#include <string_view>

#include "daemon/host_name.hpp"
#include "daemon/printable.hpp"

namespace sluice::daemon {

namespace {

constexpr std::size_t kFirstLineBytesMax = 64 * 1024;
constexpr std::size_t kPrefixBytesMax = 100;

// FNV-1a, 64 bits: names have to differ, nobody gains by making two the same.
std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
}

// Tells a file from another that had or gets its path. Inode numbers are used again, often by the
// very next file, so its time of birth comes with it, where the file system keeps one. The number
// of the device was rejected: it may change with each boot, and then all lines were sent twice.
std::string identity_of(int fd) {
  struct statx status {};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &status) != 0) return {};
  const bool has_birth = (status.stx_mask & STATX_BTIME) != 0;
  return fmt::format("{}\n{}.{}", status.stx_ino, has_birth ? status.stx_btime.tv_sec : 0,
                     has_birth ? status.stx_btime.tv_nsec : 0);
}

std::string first_line(int fd) {
  std::string text(kFirstLineBytesMax, '\0');
  const ssize_t got = ::pread(fd, text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return text.substr(0, text.find('\n'));
}

}  // namespace

std::string name_of_file(const std::string& path, int fd) {
  std::error_code ignored;
  std::filesystem::path absolute = std::filesystem::canonical(path, ignored);
  if (ignored) absolute = std::filesystem::absolute(path);
  const std::string seen = fmt::format("{}\n{}\n{}\n{}\n{}", host_name(), ::geteuid(),
                                       absolute.string(), identity_of(fd), first_line(fd));
  return fmt::format("send:{}:{}:{}:{:016x}", printable(host_name(), 60), ::geteuid(),
                     printable(absolute.filename().string(), 60), hash_of(seen));
}

std::string random_name(std::string_view prefix) {
  std::random_device random;
  std::size_t size = std::min(prefix.size(), kPrefixBytesMax);
  // Not within a character of UTF-8.
  while (size < prefix.size() && size > 0 && (prefix[size] & 0xc0) == 0x80) --size;
  return fmt::format("{}:{:08x}{:08x}{:08x}", prefix.substr(0, size), random(), random(), random());
}

}  // namespace sluice::daemon
