// Which segments' watermarks a lane looks at next, and what a look found: a failover that lost
// commits may be hidden by a pooler, so that no connection breaks.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "spool/block.hpp"

namespace sluice::sink {

// Thread: the sink's.
class WatermarkCheck final {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kInterval{5};
  static constexpr std::size_t kSegmentsMax = 500;  // in one look

  [[nodiscard]] bool is_due(Clock::time_point now) const { return now >= due_at_; }
  // When the lane has to look again while it rests; none while there is nothing to look at.
  [[nodiscard]] std::optional<Clock::time_point> next() const {
    return wanted_ ? std::optional(due_at_) : std::nullopt;
  }
  // A new connection: perhaps to another server.
  void look_at_once() { due_at_ = {}; }
  // The database has a watermark now that it must not lose.
  void want() { wanted_ = true; }

  // Takes the next of these; each must be at its position or above. Empty: there is nothing to ask.
  [[nodiscard]] std::span<const spool::Uuid> begin(std::vector<spool::Position> expected,
                                                   Clock::time_point now);
  // What the database has less of than it must: at the positions that it has.
  [[nodiscard]] std::vector<spool::Position> lost(std::span<const spool::Position> found) const;

 private:
  Clock::time_point due_at_{};
  bool wanted_ = false;
  std::size_t turn_ = 0;  // of the rotation
  std::vector<spool::Position> expected_;
  std::vector<spool::Uuid> asked_;  // of expected_, in their order
};

}  // namespace sluice::sink
