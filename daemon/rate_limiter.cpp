// Token buckets by key.
#include "daemon/rate_limiter.hpp"

#include <algorithm>
#include <utility>

namespace sluice::daemon {

std::optional<std::uint64_t> RateLimiter::admit(std::string_view key, Clock::time_point now) {
  Bucket& bucket = bucket_of(key, now);
  const auto intervals = (now - bucket.refilled) / limits_.interval;
  if (intervals > 0) {
    const auto missing = static_cast<std::int64_t>(limits_.burst - bucket.tokens);
    bucket.tokens += static_cast<std::uint32_t>(std::min<std::int64_t>(intervals, missing));
    bucket.refilled += intervals * limits_.interval;
  }
  if (bucket.tokens == 0) {
    ++bucket.suppressed;
    return std::nullopt;
  }
  --bucket.tokens;
  return std::exchange(bucket.suppressed, 0);
}

RateLimiter::Bucket& RateLimiter::bucket_of(std::string_view key, Clock::time_point now) {
  if (const auto known = buckets_.find(key); known != buckets_.end()) return known->second;
  if (buckets_.size() >= limits_.keys_max) forget_quiet_keys(now);
  const bool full = buckets_.size() >= limits_.keys_max;
  return buckets_
      .try_emplace(full ? std::string() : std::string(key), Bucket{limits_.burst, now, 0})
      .first->second;
}

// A bucket that would be full by now is as good as a new one, if it has nothing left to tell.
void RateLimiter::forget_quiet_keys(Clock::time_point now) {
  std::erase_if(buckets_, [&](const auto& entry) {
    const Bucket& bucket = entry.second;
    const auto missing = static_cast<std::int64_t>(limits_.burst - bucket.tokens);
    return bucket.suppressed == 0 && (now - bucket.refilled) / limits_.interval >= missing;
  });
}

}  // namespace sluice::daemon
