// The log and the numbers of redelivery: what becomes of set-aside events that are tried again.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "daemon/log.hpp"
#include "sink/redelivery_reporter.hpp"

namespace sluice::daemon {

// Threads: a RedeliveryReporter's functions the sink's; the counts any.
class RedeliveryReport final : public sink::RedeliveryReporter {
 public:
  // The log outlives it.
  explicit RedeliveryReport(Log& log) : log_(log) {}

  void delivered(const spool::Position& event, bool by_an_earlier_try) override;
  void refused(const spool::Position& event, spool::AsideState state,
               const sink::Failure& failure) override;
  void left_to_segment(const spool::Position&) override {}
  void unreadable(const spool::Position& event) override;
  void lost(const spool::Uuid& segment, std::uint64_t events) override;
  void closed(std::string_view table, const sink::Failure& failure) override;
  void failed(std::string_view step, const sink::Failure& failure,
              std::chrono::milliseconds retry_in) override;

  // Events that got into their tables, that died on the way, and that a failover lost again.
  [[nodiscard]] std::uint64_t events_delivered() const { return delivered_.load(); }
  [[nodiscard]] std::uint64_t events_died() const { return died_.load(); }
  [[nodiscard]] std::uint64_t events_lost() const { return lost_.load(); }

 private:
  Log& log_;
  std::map<std::string, std::string> closed_;  // tables with the reason that was told
  // Publish nothing but themselves.
  std::atomic<std::uint64_t> delivered_{0};
  std::atomic<std::uint64_t> died_{0};
  std::atomic<std::uint64_t> lost_{0};
};

}  // namespace sluice::daemon
