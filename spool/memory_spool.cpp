#include "spool/memory_spool.hpp"

#include <algorithm>
#include <utility>

namespace sluice::spool {
namespace {

std::size_t bytes_of(const Block& block) {
  std::size_t bytes = 0;
  for (const Chunk& chunk : block.chunks) bytes += chunk.capacity_bytes();
  return bytes;
}

}  // namespace

class MemorySpool::Lane final : public SpoolReader {
 public:
  Lane(const MemorySpoolOptions& options, LaneIndex index, const Callbacks& callbacks)
      : options_(options), index_(index), callbacks_(callbacks) {}

  bool has_room() {
    const std::lock_guard lock(mutex_);
    room_wanted_ = !has_room_locked();
    return !room_wanted_;
  }

  Position append(std::vector<Chunk>& chunks, const SpoolTime& now) {
    auto block = std::make_shared<Block>();
    block->chunks = std::exchange(chunks, {});
    for (const Chunk& chunk : block->chunks) block->count += chunk.count();
    const std::size_t bytes = bytes_of(*block);

    const std::lock_guard lock(mutex_);
    if (segments_.empty() || segments_.back().bytes >= options_.segment_bytes) {
      open_segment(now);
    }
    Segment& segment = segments_.back();
    block->segment = segment.id;
    block->first_index = segment.end_index;
    segment.end_index += block->count;
    segment.bytes += bytes;
    unread_bytes_ += bytes;
    held_bytes_ += bytes;
    events_held_ += block->count;
    segment.blocks.push_back({std::move(block), bytes, false});
    return {segment.id, segment.end_index};
  }

  std::optional<SegmentToDeliver> first_segment() override {
    const std::lock_guard lock(mutex_);
    if (segments_.empty()) return std::nullopt;
    return SegmentToDeliver{segments_.front().id, segments_.front().created_us};
  }

  ReadResult read(const Position& position) override {
    bool room_again = false;
    ReadResult result = NothingYet{};
    {
      const std::lock_guard lock(mutex_);
      result = read_locked(position);
      room_again = must_tell_of_room();
    }
    if (room_again) callbacks_.on_room();
    return result;
  }

  std::uint64_t release(const Position& upto) override {
    std::vector<BlockPtr> freed;  // after the lock: freeing calls the budget's on_room
    std::uint64_t events = 0;
    bool room_again = false;
    {
      const std::lock_guard lock(mutex_);
      events = release_locked(upto, freed);
      room_again = must_tell_of_room();
    }
    callbacks_.on_released(index_, upto);
    if (room_again) callbacks_.on_room();
    return events;
  }

  // What is released is gone, so nothing is kept to be confirmed or sent again.
  void confirm(const Uuid&) override {}
  std::vector<Position> delivered() const override { return {}; }
  std::uint64_t rewind(const Position&) override { return 0; }
  std::uint64_t quarantine(const Uuid&) override { return 0; }

  std::optional<std::int64_t> oldest_received_us() const {
    const std::lock_guard lock(mutex_);
    for (const Segment& segment : segments_) {
      if (segment.blocks.empty()) continue;
      const BlockPtr& oldest = segment.blocks.front().block;
      return BlockCursor(oldest, oldest->first_index).event().header().received_us;
    }
    return std::nullopt;
  }

  std::uint64_t events_held() const override {
    const std::lock_guard lock(mutex_);
    return events_held_;
  }

 private:
  struct Held {
    BlockPtr block;
    std::size_t bytes;
    bool was_read;
  };
  struct Segment {
    Uuid id;
    std::int64_t created_us = 0;
    std::uint64_t released_index = 0;  // released_index <= end_index
    std::uint64_t end_index = 0;
    std::size_t bytes = 0;    // ever appended
    std::deque<Held> blocks;  // those not wholly released, in order
  };

  [[nodiscard]] bool has_room_locked() const {
    return unread_bytes_ < options_.unread_bytes_max && held_bytes_ < options_.held_bytes_max;
  }

  // True once after has_room() said no, when there is room again.
  bool must_tell_of_room() {
    if (!room_wanted_ || !has_room_locked()) return false;
    room_wanted_ = false;
    return true;
  }

  void open_segment(const SpoolTime& now) {
    segments_.emplace_back();
    segments_.back().id = Uuid::random();
    segments_.back().created_us = now.unix_us;
    drop_finished_segments();
  }

  ReadResult read_locked(const Position& position) {
    const auto segment = std::find_if(segments_.begin(), segments_.end(),
                                      [&](const Segment& s) { return s.id == position.segment; });
    if (segment == segments_.end()) return EndOfSegment{};  // released whole, and dropped
    if (position.index < segment->released_index) return Gone{segment->released_index};
    if (position.index >= segment->end_index) {
      if (&*segment == &segments_.back()) return NothingYet{};
      return EndOfSegment{};
    }
    const auto held =
        std::partition_point(segment->blocks.begin(), segment->blocks.end(),
                             [&](const Held& h) { return h.block->end_index() <= position.index; });
    if (!std::exchange(held->was_read, true)) unread_bytes_ -= held->bytes;
    return held->block;
  }

  std::uint64_t release_locked(const Position& upto, std::vector<BlockPtr>& freed) {
    if (segments_.empty() || segments_.front().id != upto.segment) return 0;
    Segment& segment = segments_.front();
    if (upto.index <= segment.released_index) return 0;
    const std::uint64_t events = upto.index - segment.released_index;
    events_held_ -= events;
    segment.released_index = upto.index;
    while (!segment.blocks.empty() && segment.blocks.front().block->end_index() <= upto.index) {
      Held& held = segment.blocks.front();
      held_bytes_ -= held.bytes;
      if (!held.was_read) unread_bytes_ -= held.bytes;
      freed.push_back(std::move(held.block));
      segment.blocks.pop_front();
    }
    drop_finished_segments();
    return events;
  }

  // A sealed segment that is released whole is of no more use; the open one stays.
  void drop_finished_segments() {
    while (segments_.size() > 1 &&
           segments_.front().released_index == segments_.front().end_index) {
      segments_.pop_front();
    }
  }

  const MemorySpoolOptions options_;
  const LaneIndex index_;
  const Callbacks& callbacks_;
  mutable std::mutex mutex_;
  std::deque<Segment> segments_;  // the last is open
  std::size_t unread_bytes_ = 0;  // of blocks that read() never returned
  std::size_t held_bytes_ = 0;
  std::uint64_t events_held_ = 0;
  bool room_wanted_ = false;  // has_room() said no and on_room was not called since
};

MemorySpool::MemorySpool(MemorySpoolOptions options, Callbacks callbacks)
    : callbacks_(std::move(callbacks)) {
  for (std::size_t i = 0; i < options.lanes; ++i) {
    lanes_.push_back(std::make_unique<Lane>(options, i, callbacks_));
  }
}

MemorySpool::~MemorySpool() = default;

SpoolReader& MemorySpool::reader(LaneIndex lane) {
  return *lanes_.at(lane);
}

std::uint64_t MemorySpool::events_held() const {
  std::uint64_t events = 0;
  for (const auto& lane : lanes_) events += lane->events_held();
  return events;
}

std::optional<std::int64_t> MemorySpool::oldest_received_us() const {
  std::optional<std::int64_t> oldest;
  for (const auto& lane : lanes_) {
    const auto received_us = lane->oldest_received_us();
    if (received_us && (!oldest || *received_us < *oldest)) oldest = received_us;
  }
  return oldest;
}

std::optional<LaneIndex> MemorySpool::lane_with_room(const SpoolTime&) {
  for (std::size_t i = 0; i < lanes_.size(); ++i) {
    const LaneIndex lane = (next_lane_ + i) % lanes_.size();
    if (lanes_[lane]->has_room()) return lane;
  }
  return std::nullopt;
}

std::optional<Position> MemorySpool::append(LaneIndex lane, std::vector<Chunk>& chunks,
                                            std::span<const ProducerMark>, const SpoolTime& now) {
  next_lane_ = (lane + 1) % lanes_.size();
  if (chunks.empty()) return Position{};  // marks alone: nothing to keep
  const Position end = lanes_.at(lane)->append(chunks, now);
  callbacks_.on_readable(lane);
  return end;
}

}  // namespace sluice::spool
