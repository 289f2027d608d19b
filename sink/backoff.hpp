// How long to wait after a failure: decorrelated jitter, reset by success.
#pragma once

#include <chrono>
#include <cstdint>
#include <random>

namespace sluice::sink {

struct BackoffOptions {
  std::chrono::milliseconds least{100};
  std::chrono::milliseconds most{30'000};
};

// Each delay is drawn between `least` and three times the one before, up to `most`
// (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter).
class Backoff final {
 public:
  explicit Backoff(std::uint64_t seed, BackoffOptions options = {})
      : options_(options), random_(seed), last_(options.least) {}

  [[nodiscard]] std::chrono::milliseconds next();
  void reset() { last_ = options_.least; }

 private:
  BackoffOptions options_;
  std::mt19937_64 random_;
  std::chrono::milliseconds last_;
};

}  // namespace sluice::sink
