// The log of the spool on disk: what it reports, one line for each thing that a person cares about.
#pragma once

#include <string>
#include <string_view>

#include "daemon/log.hpp"
#include "spool/disk_spool.hpp"

namespace sluice::daemon {

// Passes everything on to the next reporter. Threads: any.
class SpoolLog final : public spool::SpoolReporter {
 public:
  // Both outlive it.
  SpoolLog(Log& log, spool::SpoolReporter& next) : log_(log), next_(next) {}

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
  void synced(std::chrono::microseconds took) override { next_.synced(took); }
  void keys_unwritten(const std::string& name, std::string_view reason) override;
  void keys_lost(const std::string& name, std::string_view reason) override;

 private:
  Log& log_;
  spool::SpoolReporter& next_;
};

}  // namespace sluice::daemon
