// The log of delivery: what the lanes report, one line for each change that a person cares about.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/log.hpp"
#include "sink/lane_reporter.hpp"

namespace sluice::daemon {

// Lanes fail together more often than alone, so trouble is told for all of them: one line when it
// begins, one for each other thing to mend, reminders while it lasts, one line when the last lane
// is through again.
//
// Thread: the sink's.
class LaneLog final : public sink::LaneReporter {
 public:
  using Clock = std::chrono::steady_clock;

  // The log outlives it.
  LaneLog(Log& log, std::size_t lanes, std::function<Clock::time_point()> now = Clock::now);

  void state_changed(std::size_t lane, sink::LaneState state) override;
  void failed(std::size_t lane, std::string_view step, const sink::Failure& failure,
              std::chrono::milliseconds retry_in) override;
  void held(std::size_t lane, std::string_view step, const sink::Failure& failure,
            std::chrono::milliseconds retry_in) override;
  void recovered(std::size_t lane) override;
  void batch_committed(std::size_t, const sink::CommittedBatch&) override {}
  void commit_unknown(std::size_t lane) override;
  void unknown_was_committed(std::size_t lane, std::uint64_t events) override;
  void found_committed(std::size_t lane, std::uint64_t events) override;
  void row_set_aside(std::size_t lane, const spool::Position& position,
                     const sink::Failure& failure) override;
  void set_aside_committed(std::size_t, std::uint64_t) override {}
  void segment_forgotten(std::size_t lane, const spool::Uuid& segment,
                         std::uint64_t events) override;
  void commits_lost(std::size_t lane, const spool::Position& from, std::uint64_t events,
                    bool resent) override;

 private:
  // Notes that the lane is in trouble, and returns whether a line about this cause is due.
  [[nodiscard]] bool is_news(std::size_t lane, const std::string& cause, Clock::duration reminder);

  Log& log_;
  const std::function<Clock::time_point()> now_;
  bool was_connected_ = false;
  std::vector<bool> in_trouble_;  // by lane
  std::optional<Clock::time_point> trouble_since_;
  std::map<std::string, Clock::time_point> told_;  // causes told since then, with the last time
};

}  // namespace sluice::daemon
