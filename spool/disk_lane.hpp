// One lane's stream of segments on disk: what of it is still to be delivered, is kept for a
// failover, or is done with; and its blocks, from memory or from the files.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "spool/disk.hpp"
#include "spool/segment_scan.hpp"
#include "spool/spool.hpp"

namespace sluice::spool {

class SpoolReporter;

// What a lane knows of a segment.
struct LaneSegment {
  Uuid id;
  std::uint64_t ordinal = 0;
  std::string name;
  std::int64_t created_us = 0;       // since the Unix epoch
  std::uint64_t end_bytes = 0;       // whole, durable blocks lie below
  std::uint64_t end_index = 0;       // released_index <= end_index
  std::uint64_t released_index = 0;  // everything below is committed
  bool closed = false;               // nothing more comes
  unsigned copies = 0;               // a copy took the file's place so often
  bool confirmed = false;            // closed, released to its end, and the database is sure of it

  [[nodiscard]] bool is_delivered() const { return closed && released_index == end_index; }
};

// Threads: the reader's face to the sink, the rest to the journal; the mutex stands between. The
// callbacks are called with no lock held.
class DiskLane final : public SpoolReader {
 public:
  struct Callbacks {
    std::function<void(const Position&)> on_released;
    std::function<void()> on_confirmed;  // a segment may go now
  };

  // REQUIRES: disk and reporter outlive the lane.
  DiskLane(Disk& disk, SpoolReporter& reporter, std::size_t cached_bytes_max, Callbacks callbacks);

  // The journal's side.

  // Segments come in the order of their ordinals.
  void add(LaneSegment segment);
  // A block was appended to the last segment and is durable.
  void publish(BlockPtr block, std::uint64_t end_bytes, std::int64_t written_us);
  // The last segment takes no more.
  void close_last(std::uint64_t end_bytes);
  // What lay beyond the segment's end is durable too, in the copy that is in the file's place, and
  // nothing more comes.
  void take_tail(const Uuid& segment, std::uint64_t end_bytes, std::uint64_t end_index);
  // True if the last segment has events and all of them are committed.
  [[nodiscard]] bool last_is_released() const;
  [[nodiscard]] std::vector<LaneSegment> segments() const;
  // The segment's file goes: it can be read no more.
  void forget(const Uuid& segment);
  // Segments that quarantine() was called for since the last call.
  [[nodiscard]] std::vector<LaneSegment> take_quarantined();

  // Threads: any.
  [[nodiscard]] std::optional<std::int64_t> oldest_received_us() const;

  // The sink's side.

  [[nodiscard]] std::optional<SegmentToDeliver> first_segment() override;
  [[nodiscard]] ReadResult read(const Position& position) override;
  std::uint64_t release(const Position& upto) override;
  [[nodiscard]] std::uint64_t events_held() const override;  // thread: any
  void confirm(const Uuid& segment) override;
  [[nodiscard]] std::vector<Position> delivered() const override;
  std::uint64_t rewind(const Position& position) override;
  std::uint64_t quarantine(const Uuid& segment) override;

 private:
  // Where the lane stands in a file.
  struct Reading {
    Reading(const LaneSegment& of, std::unique_ptr<DiskFile> opened)
        : segment(of.id), copies(of.copies), file(std::move(opened)), scan(*file, of.id) {}

    // To the last block that was handed out.
    void go_back() {
      next_index = block_index;
      scan.seek(block_offset);
    }

    const Uuid segment;
    const unsigned copies;  // the segment's, when it was opened
    const std::unique_ptr<DiskFile> file;
    SegmentScan scan;
    std::uint64_t next_index = 0;  // of the block at scan.next_offset()
    // The last block that was handed out.
    std::uint64_t block_offset = kSegmentHeaderBytes;
    std::uint64_t block_index = 0;
  };

  [[nodiscard]] LaneSegment* find_locked(const Uuid& segment);
  [[nodiscard]] BlockPtr take_cached_locked(const Position& position);
  [[nodiscard]] ReadResult read_file(const LaneSegment& segment, std::uint64_t index);
  [[nodiscard]] bool stand_before(const LaneSegment& segment, std::uint64_t index);
  [[nodiscard]] bool gives_up(const Damage& damage, std::error_code error);
  void report_damage(const LaneSegment& segment, const Damage& damage, std::uint64_t first_index,
                     std::optional<std::uint64_t> events);
  [[nodiscard]] ReadResult end_early(const LaneSegment& segment, std::uint64_t end_index);
  void note_read(const BlockPtr& block);

  Disk& disk_;
  SpoolReporter& reporter_;
  const std::size_t cached_bytes_max_;
  const Callbacks callbacks_;

  mutable std::mutex mutex_;
  std::deque<LaneSegment> segments_;      // by ordinal
  std::vector<LaneSegment> quarantined_;  // since take_quarantined()
  std::deque<BlockPtr> cache_;            // not read yet, in order, with gaps
  std::size_t cached_bytes_ = 0;
  std::int64_t oldest_us_ = 0;  // receipt of the oldest event held, where it was seen
  // The sum of end_index - released_index. Written under the mutex.
  std::atomic<std::uint64_t> events_held_{0};

  std::optional<Reading> reading_;                            // the sink's alone
  unsigned failed_reads_ = 0;                                 // in a row; the sink's alone
  std::set<std::pair<Uuid, std::uint64_t>> damage_reported_;  // the sink's alone
};

}  // namespace sluice::spool
