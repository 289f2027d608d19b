#include "spool/disk_lane.hpp"

#include <algorithm>

#include "spool/disk_spool.hpp"
#include "spool/quarantine.hpp"

namespace sluice::spool {
namespace {

// A read that fails is tried again a second later, so often. What fails for half a minute will not
// come back by itself, and the events behind it wait.
constexpr unsigned kFailedReadsMax = 30;

std::size_t bytes_of(const Block& block) {
  std::size_t bytes = 0;
  for (const Chunk& chunk : block.chunks) bytes += chunk.capacity_bytes();
  return bytes;
}

BlockPtr block_of(const Uuid& segment, const ScannedBlock& scanned) {
  auto block = std::make_shared<Block>();
  block->segment = segment;
  block->first_index = scanned.header.first_index;
  block->count = scanned.header.count;
  block->chunks.push_back(Chunk::copy_of(scanned.records(), scanned.header.count));
  return block;
}

}  // namespace

DiskLane::DiskLane(Disk& disk, SpoolReporter& reporter, std::size_t cached_bytes_max,
                   Callbacks callbacks)
    : disk_(disk),
      reporter_(reporter),
      cached_bytes_max_(cached_bytes_max),
      callbacks_(std::move(callbacks)) {}

void DiskLane::add(LaneSegment segment) {
  const std::lock_guard lock(mutex_);
  if (events_held_ == 0) oldest_us_ = segment.created_us;
  events_held_ += segment.end_index - segment.released_index;
  segments_.push_back(std::move(segment));
}

void DiskLane::publish(BlockPtr block, std::uint64_t end_bytes, std::int64_t written_us) {
  const std::lock_guard lock(mutex_);
  LaneSegment& last = segments_.back();
  last.end_bytes = end_bytes;
  last.end_index = block->end_index();
  if (events_held_ == 0) oldest_us_ = written_us;
  events_held_ += block->count;
  const std::size_t bytes = bytes_of(*block);
  if (block->count == 0 || cached_bytes_ + bytes > cached_bytes_max_) return;
  cached_bytes_ += bytes;
  cache_.push_back(std::move(block));
}

void DiskLane::close_last(std::uint64_t end_bytes) {
  const std::lock_guard lock(mutex_);
  LaneSegment& last = segments_.back();
  last.closed = true;
  last.end_bytes = end_bytes;
  if (last.end_index == 0) last.confirmed = true;  // the database never heard of it
}

void DiskLane::take_tail(const Uuid& id, std::uint64_t end_bytes, std::uint64_t end_index) {
  const std::lock_guard lock(mutex_);
  LaneSegment* const segment = find_locked(id);
  if (segment == nullptr) return;  // the database has forgotten it
  if (events_held_ == 0) oldest_us_ = segment->created_us;
  events_held_ += end_index - segment->end_index;
  segment->end_bytes = end_bytes;
  segment->end_index = end_index;
  segment->closed = true;
  ++segment->copies;
}

bool DiskLane::last_is_released() const {
  const std::lock_guard lock(mutex_);
  if (segments_.empty()) return false;
  const LaneSegment& last = segments_.back();
  return last.end_index != 0 && last.released_index == last.end_index;
}

std::vector<LaneSegment> DiskLane::segments() const {
  const std::lock_guard lock(mutex_);
  return {segments_.begin(), segments_.end()};
}

void DiskLane::forget(const Uuid& segment) {
  const std::lock_guard lock(mutex_);
  std::erase_if(segments_, [&](const LaneSegment& s) { return s.id == segment; });
}

std::vector<LaneSegment> DiskLane::take_quarantined() {
  const std::lock_guard lock(mutex_);
  return std::exchange(quarantined_, {});
}

std::optional<std::int64_t> DiskLane::oldest_received_us() const {
  const std::lock_guard lock(mutex_);
  if (events_held_ == 0) return std::nullopt;
  return oldest_us_;
}

std::optional<SegmentToDeliver> DiskLane::first_segment() {
  const std::lock_guard lock(mutex_);
  for (const LaneSegment& segment : segments_) {
    if (!segment.confirmed) return SegmentToDeliver{segment.id, segment.created_us};
  }
  return std::nullopt;
}

ReadResult DiskLane::read(const Position& position) {
  LaneSegment segment;
  BlockPtr cached;
  {
    const std::lock_guard lock(mutex_);
    const LaneSegment* found = find_locked(position.segment);
    if (found == nullptr) return EndOfSegment{};
    if (position.index >= found->end_index) {
      if (found->closed) return EndOfSegment{};
      return NothingYet{};
    }
    cached = take_cached_locked(position);
    segment = *found;
  }
  if (cached) {
    note_read(cached);
    return cached;
  }
  return read_file(segment, position.index);
}

LaneSegment* DiskLane::find_locked(const Uuid& segment) {
  const auto found = std::find_if(segments_.begin(), segments_.end(),
                                  [&](const LaneSegment& s) { return s.id == segment; });
  return found == segments_.end() ? nullptr : &*found;
}

// Cached blocks before the position were read from the file meanwhile, or will not be read any
// more: they go. Where the lane went back, the cache is ahead of it and stays.
BlockPtr DiskLane::take_cached_locked(const Position& position) {
  const LaneSegment* wanted = find_locked(position.segment);
  while (!cache_.empty() && cache_.front()->segment != position.segment) {
    const LaneSegment* cached = find_locked(cache_.front()->segment);
    if (cached != nullptr && cached->ordinal > wanted->ordinal) break;
    cached_bytes_ -= bytes_of(*cache_.front());
    cache_.pop_front();
  }
  while (!cache_.empty() && cache_.front()->segment == position.segment &&
         cache_.front()->first_index <= position.index) {
    BlockPtr block = std::move(cache_.front());
    cache_.pop_front();
    cached_bytes_ -= bytes_of(*block);
    if (position.index < block->end_index()) return block;
  }
  return nullptr;
}

void DiskLane::note_read(const BlockPtr& block) {
  const std::int64_t received_us =
      BlockCursor(block, block->first_index).event().header().received_us;
  const std::lock_guard lock(mutex_);
  oldest_us_ = received_us;
}

// Opens the file if need be, and goes to a block at or before the index. False if that cannot be
// done at the moment.
bool DiskLane::stand_before(const LaneSegment& segment, std::uint64_t index) {
  if (!reading_ || reading_->segment != segment.id || reading_->copies != segment.copies) {
    reading_.reset();
    auto opened = disk_.open(segment.name, OpenMode::read_only);
    if (std::holds_alternative<std::error_code>(opened)) return false;
    reading_.emplace(segment, std::move(std::get<0>(opened)));
    return true;
  }
  if (index >= reading_->next_index) return true;
  if (index < reading_->block_index) {
    reading_->block_offset = kSegmentHeaderBytes;
    reading_->block_index = 0;
  }
  reading_->go_back();
  return true;
}

ReadResult DiskLane::read_file(const LaneSegment& segment, std::uint64_t index) {
  if (!stand_before(segment, index)) return UnreadableNow{};
  Reading& at = *reading_;
  std::optional<Damage> damage;
  std::optional<std::uint64_t> lost_from;  // with no event behind it so far
  for (;;) {
    const auto step = at.scan.next(segment.end_bytes);
    if (const auto* bad = std::get_if<Damage>(&step)) {
      if (const std::error_code error = at.scan.read_error(); error && !gives_up(*bad, error)) {
        at.go_back();
        return UnreadableNow{};
      }
      damage = *bad;
    } else if (const auto* block = std::get_if<ScannedBlock>(&step)) {
      const std::uint64_t first = block->header.first_index;
      const std::uint64_t lost = first - std::min(first, at.next_index);
      // Also where no byte is bad: whoever wrote this left events out.
      if (damage || lost > 0) {
        const Damage hole = damage.value_or(Damage{block->offset, block->offset});
        report_damage(segment, hole, at.next_index, lost);
        if (lost > 0 && !lost_from) lost_from = at.next_index;
      }
      damage.reset();
      at.next_index = block->header.end_index();
      if (block->header.count != 0) lost_from.reset();
      // An empty block tells how much was lost before it, and has nothing to deliver.
      if (at.next_index <= index || block->header.count == 0) continue;
      at.block_offset = block->offset;
      at.block_index = first;
      failed_reads_ = 0;
      const BlockPtr whole = block_of(segment.id, *block);
      note_read(whole);
      return whole;
    } else {
      break;
    }
  }
  // Fewer events than there must be. In a segment that still grows, the next block tells how many.
  if (!segment.closed) {
    reading_.reset();
    return NothingYet{};
  }
  if (damage || !lost_from) {
    const Damage bad = damage.value_or(Damage{segment.end_bytes, segment.end_bytes});
    report_damage(segment, bad, at.next_index, segment.end_index - at.next_index);
  }
  return end_early(segment, lost_from.value_or(at.next_index));
}

// Whether what cannot be read is damage.
bool DiskLane::gives_up(const Damage& damage, std::error_code error) {
  if (failed_reads_ == 0) reporter_.read_failed(reading_->segment, damage.offset, error);
  return ++failed_reads_ >= kFailedReadsMax;
}

ReadResult DiskLane::end_early(const LaneSegment& segment, std::uint64_t end_index) {
  const std::lock_guard lock(mutex_);
  LaneSegment* found = find_locked(segment.id);
  if (found != nullptr && found->end_index > end_index) {
    end_index = std::max(end_index, found->released_index);
    events_held_ -= found->end_index - end_index;
    found->end_index = end_index;
    if (end_index == 0) found->confirmed = true;
  }
  return EndOfSegment{};
}

void DiskLane::report_damage(const LaneSegment& segment, const Damage& damage,
                             std::uint64_t first_index, std::optional<std::uint64_t> events) {
  if (!damage_reported_.emplace(segment.id, damage.offset).second) return;
  keep_damage(disk_, *reading_->file, segment.name, damage);
  reporter_.quarantined(segment.id, first_index, events, damage.end_offset - damage.offset);
}

std::uint64_t DiskLane::release(const Position& upto) {
  std::uint64_t events = 0;
  {
    const std::lock_guard lock(mutex_);
    LaneSegment* segment = find_locked(upto.segment);
    if (segment == nullptr) return 0;
    const std::uint64_t index = std::min(upto.index, segment->end_index);
    if (index > segment->released_index) {
      events = index - segment->released_index;
      events_held_ -= events;
      segment->released_index = index;
    }
  }
  callbacks_.on_released(upto);
  return events;
}

std::uint64_t DiskLane::events_held() const {
  return events_held_;
}

void DiskLane::confirm(const Uuid& id) {
  {
    const std::lock_guard lock(mutex_);
    LaneSegment* segment = find_locked(id);
    if (segment == nullptr || !segment->is_delivered()) return;
    segment->confirmed = true;
  }
  // Its end may be nearer than it was taken for, where a corrupt block was the last.
  callbacks_.on_released({id, UINT64_MAX});
  callbacks_.on_confirmed();
}

std::vector<Position> DiskLane::delivered() const {
  const std::lock_guard lock(mutex_);
  std::vector<Position> positions;
  for (const LaneSegment& segment : segments_) {
    if (segment.confirmed && segment.end_index != 0) {
      positions.push_back({segment.id, segment.end_index});
    }
  }
  return positions;
}

std::uint64_t DiskLane::rewind(const Position& position) {
  const std::lock_guard lock(mutex_);
  LaneSegment* segment = find_locked(position.segment);
  if (segment == nullptr || position.index >= segment->released_index) return 0;
  const std::uint64_t events = segment->released_index - position.index;
  events_held_ += events;
  segment->released_index = position.index;
  segment->confirmed = false;
  return events;
}

std::uint64_t DiskLane::quarantine(const Uuid& id) {
  const std::lock_guard lock(mutex_);
  LaneSegment* segment = find_locked(id);
  if (segment == nullptr) return 0;
  const std::uint64_t events = segment->end_index - segment->released_index;
  events_held_ -= events;
  quarantined_.push_back(*segment);
  std::erase_if(segments_, [&](const LaneSegment& s) { return s.id == id; });
  return events;
}

}  // namespace sluice::spool
