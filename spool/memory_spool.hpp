// The log in memory (durability = "memory"): blocks go from the journal to the lanes and are freed
// when they are committed. What is in it is lost when the process ends.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "spool/spool.hpp"

namespace sluice::spool {

struct MemorySpoolOptions {
  std::size_t lanes = 2;
  // A lane takes another block while less than this waits unread: little, so that the events of a
  // quiet connection do not queue behind those of a busy one, but enough for a lane to start on.
  std::size_t unread_bytes_max = 256 * 1024;
  // And while less than this, read or not, is uncommitted.
  std::size_t held_bytes_max = 6 * 1024 * 1024;
  // A segment is sealed when it has taken as much.
  std::size_t segment_bytes = 64 * 1024 * 1024;
};

// Threads: the writer's face belongs to the journal, the readers' to the sink; a mutex per lane
// stands between. The callbacks are called with no lock held: on_readable on the journal's thread,
// on_room and on_released on the sink's.
class MemorySpool final : public SpoolWriter {
 public:
  struct Callbacks {
    std::function<void(LaneIndex)> on_readable = [](LaneIndex) {};
    std::function<void()> on_room = [] {};
    // Everything before the position is committed.
    std::function<void(LaneIndex, const Position&)> on_released = [](LaneIndex, const Position&) {};
  };

  MemorySpool(MemorySpoolOptions options, Callbacks callbacks);
  ~MemorySpool() override;

  [[nodiscard]] SpoolReader& reader(LaneIndex lane);
  // Events appended and not yet released, over all lanes. Thread: any.
  [[nodiscard]] std::uint64_t events_held() const;
  // When the oldest block that was not wholly released was received: microseconds since the Unix
  // epoch, none if there is none. Thread: any.
  [[nodiscard]] std::optional<std::int64_t> oldest_received_us() const;

  [[nodiscard]] std::optional<LaneIndex> lane_with_room(const SpoolTime& now) override;
  // Never refuses: memory was charged before.
  [[nodiscard]] std::optional<Position> append(LaneIndex lane, std::vector<Chunk>& chunks,
                                               std::span<const ProducerMark> marks,
                                               const SpoolTime& now) override;
  void tend(const SpoolTime&) override {}

 private:
  class Lane;

  const Callbacks callbacks_;
  LaneIndex next_lane_ = 0;
  std::vector<std::unique_ptr<Lane>> lanes_;
};

}  // namespace sluice::spool
