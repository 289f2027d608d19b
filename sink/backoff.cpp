#include "sink/backoff.hpp"

#include <algorithm>

namespace sluice::sink {

std::chrono::milliseconds Backoff::next() {
  std::uniform_int_distribution<std::int64_t> between(options_.least.count(), last_.count() * 3);
  last_ = std::min(options_.most, std::chrono::milliseconds(between(random_)));
  return last_;
}

}  // namespace sluice::sink
