// What can be told of the disk under a directory by trying it: how fast it syncs, what is free, and
// what kind of file system it is.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

namespace sluice::daemon {

struct SyncTimes {
  std::chrono::microseconds median{};
  std::chrono::microseconds p99{};
};

// Writes and syncs a temporary file in the directory, 50 times 4 KiB, and removes it. Throws
// std::system_error.
[[nodiscard]] SyncTimes measure_syncs(const std::filesystem::path& directory);

// What this user may still take of the file system. Throws std::system_error.
[[nodiscard]] std::uint64_t free_bytes(const std::filesystem::path& directory);

// Why what is written there may be gone sooner than a person would think: a file system in memory,
// of a container, or over the network. Empty: a disk like any other.
[[nodiscard]] std::string_view storage_caveat(const std::filesystem::path& directory);

}  // namespace sluice::daemon
