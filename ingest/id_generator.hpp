// Gives events their ids: UUIDs of version 7 that sort in the order in which they were given.
#pragma once

#include <cstdint>
#include <random>

#include "spool/uuid.hpp"

namespace sluice::ingest {

// RFC 9562 section 5.7 with its method 1: 48 bits of milliseconds, a counter of 26 bits that starts
// at a random value below 2^25 in each millisecond, and 48 random bits. A clock that goes back, or
// a counter that is used up, goes on with the last millisecond given.
//
// Thread: one.
class IdGenerator final {
 public:
  explicit IdGenerator(std::uint64_t seed) : random_(seed) {}

  // `now_us`: microseconds since the Unix epoch.
  [[nodiscard]] spool::Uuid next(std::int64_t now_us);

 private:
  std::mt19937_64 random_;
  std::uint64_t last_ms_ = 0;
  std::uint32_t counter_ = 0;  // 26 bits
};

}  // namespace sluice::ingest
