// A reporter for spools whose reports nobody asks for.
#pragma once

#include "spool/disk_spool.hpp"

namespace sluice::tests {

struct SilentSpoolReporter : spool::SpoolReporter {
  void torn_tail(const spool::Uuid&, std::uint64_t) override {}
  void quarantined(const spool::Uuid&, std::uint64_t, std::optional<std::uint64_t>,
                   std::uint64_t) override {}
  void damaged_at_start(const spool::StartDamage&) override {}
  void read_failed(const spool::Uuid&, std::uint64_t, std::error_code) override {}
  void file_set_aside(const std::string&, std::string_view) override {}
  void segments_missing(std::uint64_t) override {}
  void segment_poisoned(const spool::Uuid&, std::string_view, std::error_code) override {}
  void full(std::string_view) override {}
  void room_again() override {}
  void synced(std::chrono::microseconds) override {}
  void keys_unwritten(const std::string&, std::string_view) override {}
  void keys_lost(const std::string&, std::string_view) override {}
};

}  // namespace sluice::tests
