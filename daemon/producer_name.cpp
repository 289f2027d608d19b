// What is too long for a name goes into a hash.
#include "daemon/producer_name.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <random>
#include <string_view>

#include "daemon/host_name.hpp"
#include "daemon/printable.hpp"

namespace sluice::daemon {

namespace {

constexpr std::size_t kFirstLineBytesMax = 64 * 1024;

// FNV-1a, 64 bits: names have to differ, nobody gains by making two the same.
std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return hash;
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
  const std::string seen =
      fmt::format("{}\n{}\n{}\n{}", host_name(), ::geteuid(), absolute.string(), first_line(fd));
  return fmt::format("send:{}:{}:{}:{:016x}", printable(host_name(), 60), ::geteuid(),
                     printable(absolute.filename().string(), 60), hash_of(seen));
}

std::string random_name(const std::string& prefix) {
  std::random_device random;
  return fmt::format("{}:{:08x}{:08x}{:08x}", prefix, random(), random(), random());
}

}  // namespace sluice::daemon
