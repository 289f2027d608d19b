// The numbers of the spool on disk: what it reports, added up for /metrics.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spool/disk_spool.hpp"

namespace prometheus {
struct MetricFamily;
}

namespace sluice::daemon {

// Events that were received at the same time.
struct ReceivedGroup {
  std::int64_t received_us = 0;  // since the Unix epoch
  std::uint64_t events = 0;
};

// Threads: any, but for what says otherwise.
class SpoolMetrics final : public spool::SpoolReporter {
 public:
  SpoolMetrics();
  SpoolMetrics(const SpoolMetrics&) = delete;
  SpoolMetrics& operator=(const SpoolMetrics&) = delete;
  ~SpoolMetrics() override;

  void torn_tail(const spool::Uuid& segment, std::uint64_t bytes) override;
  void quarantined(const spool::Uuid& segment, std::uint64_t first_index,
                   std::optional<std::uint64_t> events, std::uint64_t bytes) override;
  void damaged_at_start(const spool::StartDamage& damage) override;
  void read_failed(const spool::Uuid& segment, std::uint64_t offset,
                   std::error_code error) override;
  void file_set_aside(const std::string& name, std::string_view reason) override;
  void segments_missing(std::uint64_t count) override;
  void segment_poisoned(const spool::Uuid& segment, std::string_view step,
                        std::error_code error) override;
  void full(std::string_view reason) override;
  void room_again() override;
  void synced(std::chrono::microseconds took) override;
  void keys_unwritten(const std::string& name, std::string_view reason) override;
  void keys_lost(const std::string& name, std::string_view reason) override;

  // A block was durable at this time of the clock that gave the times of receipt. Thread: the
  // journal's.
  void block_durable(std::span<const ReceivedGroup> groups, std::int64_t durable_us);

  // Events that were lost with corrupt blocks, as far as their number is known.
  [[nodiscard]] std::uint64_t events_quarantined() const;

  // Adds the spool's series of trouble and time.
  void collect(std::vector<prometheus::MetricFamily>& families) const;

 private:
  struct Numbers;

  const std::unique_ptr<Numbers> numbers_;
};

}  // namespace sluice::daemon
