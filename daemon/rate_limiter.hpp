// Bounds how often a line that repeats itself is written.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::daemon {

struct RateLimits {
  std::uint32_t burst = 5;                     // lines at once
  std::chrono::milliseconds interval{10'000};  // then one in each interval
  // Keys known at once; further ones share one allowance, so that memory is bounded.
  std::size_t keys_max = 256;
};

// A token bucket for each key. Thread: one.
class RateLimiter final {
 public:
  using Clock = std::chrono::steady_clock;

  explicit RateLimiter(RateLimits limits = {}) : limits_(limits) {}

  // None: do not write the line. Else how many were not written since the last one that was.
  [[nodiscard]] std::optional<std::uint64_t> admit(std::string_view key, Clock::time_point now);

 private:
  struct Bucket {
    std::uint32_t tokens = 0;  // <= limits_.burst
    Clock::time_point refilled;
    std::uint64_t suppressed = 0;
  };

  Bucket& bucket_of(std::string_view key, Clock::time_point now);
  void forget_quiet_keys(Clock::time_point now);

  const RateLimits limits_;
  std::map<std::string, Bucket, std::less<>> buckets_;
};

}  // namespace sluice::daemon
