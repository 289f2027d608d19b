#include "daemon/event_spool.hpp"

#include <algorithm>
#include <random>
#include <span>
#include <vector>

#include "daemon/lane_metrics.hpp"

namespace sluice::daemon {
namespace {

// Kept back for the seals of full segments; of a small spool, a part of it.
constexpr std::uint64_t kReserveBytes = 16ULL << 20;
constexpr std::uint64_t kReserveShare = 8;
// Blocks that lanes have not read yet are kept in memory too, charged to the queue's budget: were
// they to fill it, nothing would be read from the sockets while the disk has room.
constexpr std::uint64_t kCachedShare = 4;

std::uint64_t random_seed() {
  std::random_device device;
  return std::uint64_t{device()} << 32 | device();
}

spool::MemorySpoolOptions memory_options(const config::Settings& settings) {
  spool::MemorySpoolOptions options;
  options.lanes = settings.postgres.lanes;
  options.segment_bytes = settings.spool.segment_bytes;
  // A whole batch under way and as much again as a lane starts the next one with.
  options.held_bytes_max = settings.postgres.batch_bytes_max + options.unread_bytes_max;
  return options;
}

spool::DiskSpoolOptions disk_options(const config::Settings& settings) {
  spool::DiskSpoolOptions options;
  options.lanes = settings.postgres.lanes;
  options.durability = settings.spool.durability == "process" ? spool::Durability::process
                                                              : spool::Durability::power;
  options.bytes_max = settings.spool.bytes_max;
  options.segment_bytes = settings.spool.segment_bytes;
  options.retain_time = settings.spool.retain_time;
  options.retain_bytes = settings.spool.retain_bytes;
  options.dedupe_window = settings.dedupe.window;
  options.cached_bytes_max =
      std::min<std::uint64_t>(options.cached_bytes_max, settings.ingest.queue_bytes_max /
                                                            kCachedShare / settings.postgres.lanes);
  options.reserve_bytes = std::min(kReserveBytes, settings.spool.bytes_max / kReserveShare);
  return options;
}

}  // namespace

// Appends, and measures how long the events in it were not durable.
class EventSpool::TimedWriter final : public spool::SpoolWriter {
 public:
  TimedWriter(spool::SpoolWriter& spool, SpoolMetrics& metrics)
      : spool_(spool), metrics_(metrics) {}

  std::optional<spool::LaneIndex> lane_with_room(const spool::SpoolTime& now) override {
    return spool_.lane_with_room(now);
  }

  std::optional<spool::Position> append(spool::LaneIndex lane, std::vector<spool::Chunk>& chunks,
                                        std::span<const spool::ProducerMark> marks,
                                        const spool::SpoolTime& now) override {
    received_.clear();
    for (const spool::Chunk& chunk : chunks) {
      if (chunk.empty()) continue;
      // A chunk is one read of one connection: its first event stands for all.
      const spool::EventView first(chunk.bytes().data());
      received_.push_back({first.header().received_us, chunk.count()});
    }
    const auto end = spool_.append(lane, chunks, marks, now);
    if (end) metrics_.block_durable(received_, LaneMetrics::wall_clock_us());
    return end;
  }

  void tend(const spool::SpoolTime& now) override { spool_.tend(now); }

 private:
  spool::SpoolWriter& spool_;
  SpoolMetrics& metrics_;
  std::vector<ReceivedGroup> received_;  // of append() alone, kept so that it allocates nothing
};

EventSpool::EventSpool(const config::Settings& settings, const std::optional<DiskParts>& on_disk,
                       const Callbacks& callbacks, const spool::SpoolTime& now) {
  if (!on_disk) {
    memory_ = std::make_unique<spool::MemorySpool>(
        memory_options(settings),
        spool::MemorySpool::Callbacks{callbacks.on_readable, callbacks.on_room,
                                      callbacks.on_released});
    hash_seed_ = random_seed();
    return;
  }
  disk_ = std::make_unique<spool::DiskSpool>(
      disk_options(settings), on_disk->disk, on_disk->producers, on_disk->reporter,
      spool::DiskSpool::Callbacks{callbacks.on_readable, callbacks.on_room, callbacks.on_released},
      now);
  timed_ = std::make_unique<TimedWriter>(*disk_, on_disk->metrics);
  hash_seed_ = disk_->hash_seed();
}

EventSpool::~EventSpool() = default;

spool::SpoolWriter& EventSpool::writer() {
  if (timed_) return *timed_;
  return *memory_;
}

spool::SpoolReader& EventSpool::reader(spool::LaneIndex lane) {
  return disk_ ? disk_->reader(lane) : memory_->reader(lane);
}

void EventSpool::close(const spool::SpoolTime& now) {
  if (disk_) disk_->close(now);
}

void EventSpool::recovered_keys(std::int64_t since_us, std::uint64_t keys_max,
                                const std::function<void(const spool::RememberedKey&)>& visit) {
  if (disk_) disk_->recovered_keys(since_us, keys_max, visit);
}

std::optional<spool::Position> EventSpool::recovered_end(spool::LaneIndex lane) const {
  return disk_ ? disk_->recovered_end(lane) : std::nullopt;
}

std::uint64_t EventSpool::events_held() const {
  return disk_ ? disk_->events_held() : memory_->events_held();
}

std::uint64_t EventSpool::events_recovered() const {
  return disk_ ? disk_->events_recovered() : 0;
}

std::optional<std::int64_t> EventSpool::oldest_received_us() const {
  return disk_ ? disk_->oldest_received_us() : memory_->oldest_received_us();
}

std::uint64_t EventSpool::bytes() const {
  return disk_ ? disk_->bytes() : 0;
}

std::uint64_t EventSpool::segments() const {
  return disk_ ? disk_->segments() : 0;
}

std::string EventSpool::why_full() const {
  return disk_ ? disk_->why_full() : std::string();
}

}  // namespace sluice::daemon
