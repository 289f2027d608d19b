// The spool that the settings ask for, on disk or in memory, behind the faces that both have.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "config/settings.hpp"
#include "daemon/spool_metrics.hpp"
#include "spool/disk_spool.hpp"
#include "spool/memory_spool.hpp"

namespace sluice::daemon {

// Threads: as the spools say; what is const, any.
class EventSpool final {
 public:
  struct Callbacks {
    std::function<void(spool::LaneIndex)> on_readable;
    std::function<void()> on_room;
    std::function<void(spool::LaneIndex, const spool::Position&)> on_released;
  };
  // What a spool on disk works with. All outlive it.
  struct DiskParts {
    spool::Disk& disk;  // locked
    spool::ProducerTable& producers;
    spool::SpoolReporter& reporter;
    SpoolMetrics& metrics;
  };

  // REQUIRES: all callbacks are set; they may be called as soon as the spool is used.
  // On disk, what the directory holds is recovered here: throws as spool::DiskSpool does.
  EventSpool(const config::Settings& settings, const std::optional<DiskParts>& on_disk,
             const Callbacks& callbacks, const spool::SpoolTime& now);
  EventSpool(const EventSpool&) = delete;
  EventSpool& operator=(const EventSpool&) = delete;
  ~EventSpool();

  [[nodiscard]] spool::SpoolWriter& writer();
  [[nodiscard]] spool::SpoolReader& reader(spool::LaneIndex lane);
  // No append follows.
  void close(const spool::SpoolTime& now);

  // The seed of keyed hashes: what recovered keys were made with, or random.
  [[nodiscard]] std::uint64_t hash_seed() const { return hash_seed_; }
  // Visits the dedupe keys that the files remember, the oldest first. Right after construction.
  void recovered_keys(std::int64_t since_us, std::uint64_t keys_max,
                      const std::function<void(const spool::RememberedKey&)>& visit);

  // Where the lane's events of earlier runs end, if it has any. Right after construction.
  [[nodiscard]] std::optional<spool::Position> recovered_end(spool::LaneIndex lane) const;

  [[nodiscard]] bool on_disk() const { return disk_ != nullptr; }
  [[nodiscard]] std::uint64_t events_held() const;
  [[nodiscard]] std::uint64_t events_recovered() const;
  [[nodiscard]] std::optional<std::int64_t> oldest_received_us() const;
  [[nodiscard]] std::uint64_t bytes() const;
  [[nodiscard]] std::uint64_t segments() const;
  // Why it takes no events at the moment. Empty: it does; always so in memory, where the queue's
  // budget is the bound.
  [[nodiscard]] std::string why_full() const;

 private:
  class TimedWriter;

  std::unique_ptr<spool::MemorySpool> memory_;  // or
  std::unique_ptr<spool::DiskSpool> disk_;      // one of the two
  std::unique_ptr<TimedWriter> timed_;          // in front of disk_
  std::uint64_t hash_seed_ = 0;
};

}  // namespace sluice::daemon
