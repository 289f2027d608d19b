// Tells each of several reporters what a lane reports, in their order: the metrics and the log.
#pragma once

#include <functional>
#include <string_view>
#include <utility>
#include <vector>

#include "sink/lane_reporter.hpp"

namespace sluice::daemon {

// Thread: the sink's.
class LaneReporters final : public sink::LaneReporter {
 public:
  // They outlive it.
  explicit LaneReporters(std::vector<std::reference_wrapper<sink::LaneReporter>> reporters)
      : reporters_(std::move(reporters)) {}

  void state_changed(std::size_t lane, sink::LaneState state) override {
    for (sink::LaneReporter& each : reporters_) each.state_changed(lane, state);
  }
  void failed(std::size_t lane, std::string_view step, const sink::Failure& failure,
              std::chrono::milliseconds retry_in) override {
    for (sink::LaneReporter& each : reporters_) each.failed(lane, step, failure, retry_in);
  }
  void held(std::size_t lane, std::string_view step, const sink::Failure& failure,
            std::chrono::milliseconds retry_in) override {
    for (sink::LaneReporter& each : reporters_) each.held(lane, step, failure, retry_in);
  }
  void recovered(std::size_t lane) override {
    for (sink::LaneReporter& each : reporters_) each.recovered(lane);
  }
  void batch_committed(std::size_t lane, const sink::CommittedBatch& batch) override {
    for (sink::LaneReporter& each : reporters_) each.batch_committed(lane, batch);
  }
  void commit_unknown(std::size_t lane) override {
    for (sink::LaneReporter& each : reporters_) each.commit_unknown(lane);
  }
  void unknown_was_committed(std::size_t lane, std::uint64_t events) override {
    for (sink::LaneReporter& each : reporters_) each.unknown_was_committed(lane, events);
  }
  void found_committed(std::size_t lane, std::uint64_t events) override {
    for (sink::LaneReporter& each : reporters_) each.found_committed(lane, events);
  }
  void row_set_aside(std::size_t lane, const spool::Position& position,
                     const sink::Failure& failure) override {
    for (sink::LaneReporter& each : reporters_) each.row_set_aside(lane, position, failure);
  }
  void set_aside_committed(std::size_t lane, std::uint64_t events) override {
    for (sink::LaneReporter& each : reporters_) each.set_aside_committed(lane, events);
  }
  void segment_forgotten(std::size_t lane, const spool::Uuid& segment,
                         std::uint64_t events) override {
    for (sink::LaneReporter& each : reporters_) each.segment_forgotten(lane, segment, events);
  }
  void commits_lost(std::size_t lane, const spool::Position& from, std::uint64_t events,
                    bool resent) override {
    for (sink::LaneReporter& each : reporters_) each.commits_lost(lane, from, events, resent);
  }

 private:
  const std::vector<std::reference_wrapper<sink::LaneReporter>> reporters_;
};

}  // namespace sluice::daemon
