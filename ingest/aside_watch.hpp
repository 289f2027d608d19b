// Stands before what writes set-aside records, and tells the connections which of their rows were
// refused.
#pragma once

#include <optional>
#include <vector>

#include "ingest/commit_watch.hpp"
#include "spool/aside.hpp"

namespace sluice::ingest {

// One for each lane. Thread: the sink's. REQUIRES: both outlive it.
class AsideWatch final : public spool::AsideWriter {
 public:
  AsideWatch(spool::LaneIndex lane, spool::AsideWriter& writer, CommitWatch& commits)
      : lane_(lane), writer_(writer), commits_(commits) {}
  AsideWatch(const AsideWatch&) = delete;
  AsideWatch& operator=(const AsideWatch&) = delete;

  [[nodiscard]] bool append(const spool::AsideRecord& record) override {
    if (!writer_.append(record)) return false;
    // What waits or is held is delivered later by itself: its producer must not send it again.
    if (record.state == spool::AsideState::dead) {
      commits_.refused(lane_, {record.segment, record.index}, record.sqlstate);
    }
    return true;
  }
  [[nodiscard]] std::optional<std::vector<spool::AsideEntry>> records_from(
      const spool::Position& position) override {
    return writer_.records_from(position);
  }

 private:
  const spool::LaneIndex lane_;
  spool::AsideWriter& writer_;
  CommitWatch& commits_;
};

}  // namespace sluice::ingest
