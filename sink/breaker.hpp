// After a failure of the connection only one lane tries the server, with a small batch; the others
// wait until it got through.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace sluice::sink {

// Thread: the sink's.
class Breaker final {
 public:
  // Whether this lane may connect now. While the breaker is open, the first to ask becomes the one.
  [[nodiscard]] bool may_try(std::size_t lane) {
    if (!open_) return true;
    if (!probing_lane_) probing_lane_ = lane;
    return *probing_lane_ == lane;
  }
  // True for the lane that tries for all: its batch should be small.
  [[nodiscard]] bool is_probing(std::size_t lane) const { return open_ && probing_lane_ == lane; }

  void trip(std::size_t lane) {
    open_ = true;
    give_up(lane);
  }
  // The lane does not try any more, for a reason that may be its own: let another one.
  void give_up(std::size_t lane) {
    if (probing_lane_ == lane) probing_lane_.reset();
  }
  // A lane got through.
  void reset() {
    if (open_) ++times_through_;
    open_ = false;
    probing_lane_.reset();
  }

  // How often a lane got through after others had failed: who waits for the server need not wait
  // any longer when it changes.
  [[nodiscard]] std::uint64_t times_through() const { return times_through_; }

 private:
  bool open_ = false;
  std::uint64_t times_through_ = 0;
  std::optional<std::size_t> probing_lane_;
};

}  // namespace sluice::sink
