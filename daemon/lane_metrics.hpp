// The numbers of delivery: what the lanes report, added up for /metrics.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "sink/lane_reporter.hpp"

namespace prometheus {
struct MetricFamily;
}

namespace sluice::daemon {

// Costs a few locks for each batch and nothing for each event: the latency of events that were
// received together is counted at once.
//
// Threads: a LaneReporter's functions the sink's; the rest any.
class LaneMetrics final : public sink::LaneReporter {
 public:
  // `now_us` is the wall clock that gave CommittedGroup::received_us.
  explicit LaneMetrics(std::size_t lanes, std::function<std::int64_t()> now_us = wall_clock_us);
  LaneMetrics(const LaneMetrics&) = delete;
  LaneMetrics& operator=(const LaneMetrics&) = delete;
  ~LaneMetrics() override;

  void state_changed(std::size_t lane, sink::LaneState state) override;
  void failed(std::size_t lane, std::string_view step, const sink::Failure& failure,
              std::chrono::milliseconds retry_in) override;
  void held(std::size_t lane, std::string_view step, const sink::Failure& failure,
            std::chrono::milliseconds retry_in) override;
  void recovered(std::size_t lane) override;
  void batch_committed(std::size_t lane, const sink::CommittedBatch& batch) override;
  void commit_unknown(std::size_t lane) override;
  void unknown_was_committed(std::size_t lane, std::uint64_t events) override;
  void found_committed(std::size_t lane, std::uint64_t events) override;
  void row_set_aside(std::size_t lane, const spool::Position& position,
                     const sink::Failure& failure) override;
  void set_aside_committed(std::size_t lane, std::uint64_t events) override;
  void segment_forgotten(std::size_t lane, const spool::Uuid& segment,
                         std::uint64_t events) override;
  void commits_lost(std::size_t lane, const spool::Position& from, std::uint64_t events,
                    bool resent) override;

  // Events by what became of them, as the books count them (docs/metrics.md).
  [[nodiscard]] std::uint64_t events_committed() const;
  [[nodiscard]] std::uint64_t events_rewound() const;
  [[nodiscard]] std::uint64_t events_lost() const;
  // Found committed by a resolve: before a restart, or by a clone of the spool.
  [[nodiscard]] std::uint64_t events_found_committed() const;
  [[nodiscard]] std::uint64_t events_in_table() const;
  // In the set-aside records, below their segment's watermark.
  [[nodiscard]] std::uint64_t events_set_aside() const;
  // In segments that the database had forgotten, and that were quarantined for it.
  [[nodiscard]] std::uint64_t events_forgotten() const;
  [[nodiscard]] std::size_t lanes_in(sink::LaneState state) const;

  // Adds the lanes' series but not the events'.
  void collect(std::vector<prometheus::MetricFamily>& families) const;

  [[nodiscard]] static std::int64_t wall_clock_us();

 private:
  struct Numbers;

  const std::function<std::int64_t()> now_us_;
  const std::unique_ptr<Numbers> numbers_;
};

}  // namespace sluice::daemon
