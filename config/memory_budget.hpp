// What the settings allow the daemon to hold in memory, part by part.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "config/settings.hpp"

namespace sluice::config {

struct MemoryShare {
  std::string_view what;
  std::uint64_t bytes;
};

// Lines of which only a part has come, over all connections.
inline constexpr std::uint64_t kPartialLineBytesMax = 8ULL << 20;

// Upper bounds. Code, stacks and libraries come on top of them.
[[nodiscard]] std::vector<MemoryShare> memory_budget(const Settings& settings);

[[nodiscard]] std::uint64_t memory_budget_bytes(const Settings& settings);

}  // namespace sluice::config
