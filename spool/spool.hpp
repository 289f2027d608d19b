// The two faces of the log between ingest and sink: what the journal appends to, and what each lane
// reads from. A spool in memory and one on disk both have them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "spool/block.hpp"
#include "spool/producer_table.hpp"

namespace sluice::spool {

using LaneIndex = std::size_t;

// A moment by both clocks.
struct SpoolTime {
  std::int64_t unix_us = 0;    // microseconds since the Unix epoch
  std::int64_t steady_ms = 0;  // milliseconds of a clock that never goes back
};

// The journal's face. Thread: the journal's.
class SpoolWriter {
 public:
  virtual ~SpoolWriter() = default;

  // The lane whose open segment takes the next block: the next in turn that has room. None while
  // every lane is full; the spool's `on_room` then tells when to ask again, or a second passes.
  [[nodiscard]] virtual std::optional<LaneIndex> lane_with_room(const SpoolTime& now) = 0;

  // Appends the chunks and the producers' marks as one block to the lane's open segment. Returns
  // the end of the block: it is as durable as the spool's durability promises, the lane can read
  // it, and `chunks` was taken. None: the disk took nothing of it (it is full, or fails), and
  // `chunks` is as it was; try again when lane_with_room() finds one.
  // REQUIRES: at least one record or one mark.
  [[nodiscard]] virtual std::optional<Position> append(LaneIndex lane, std::vector<Chunk>& chunks,
                                                       std::span<const ProducerMark> marks,
                                                       const SpoolTime& now) = 0;

  // What is due from time to time: call it at least each second.
  virtual void tend(const SpoolTime& now) = 0;
};

struct SegmentToDeliver {
  Uuid id;
  std::int64_t created_us = 0;  // since the Unix epoch
};

// What read() found at a position.
struct NothingYet {};     // the end of the open segment: more may come
struct UnreadableNow {};  // the disk failed: ask again a second later
struct EndOfSegment {};   // nothing more comes there: once released, first_segment() is the next
struct Gone {             // released already and not kept: the first index still here
  std::uint64_t first_index;
};
using ReadResult = std::variant<BlockPtr, NothingYet, UnreadableNow, EndOfSegment, Gone>;

// One lane's face. Thread: the sink's.
class SpoolReader {
 public:
  virtual ~SpoolReader() = default;

  // The oldest segment of this lane that has events which were not released, or the open one. None
  // before the first append.
  [[nodiscard]] virtual std::optional<SegmentToDeliver> first_segment() = 0;

  // The block that holds the position's event; or, where events were lost to a corrupt block, the
  // next one that is good: then its first_index is greater, and the events between are counted by
  // the spool.
  [[nodiscard]] virtual ReadResult read(const Position& position) = 0;

  // Everything before the position is committed. In memory it is freed; on disk the segment is kept
  // on until confirm() and for a time after that. Returns how many events that were held are not
  // any more.
  virtual std::uint64_t release(const Position& upto) = 0;

  // Events of this lane that are appended and not yet released.
  [[nodiscard]] virtual std::uint64_t events_held() const = 0;

  // The segment was released to its end, and the last write to its watermark row has committed with
  // no warning: its file may go when its time has come.
  virtual void confirm(const Uuid& segment) = 0;

  // The segments that were released to their end and are still kept, oldest first, each with the
  // watermark that the database must have for it.
  [[nodiscard]] virtual std::vector<Position> delivered() const = 0;

  // The database has lost commits of a segment that is still kept, down to the position: its events
  // from there on are delivered again, and first_segment() starts there. Returns how many events
  // are held again by that: 0 where nothing after the position was released, or it is gone.
  virtual std::uint64_t rewind(const Position& position) = 0;

  // The segment must not be delivered (the database has forgotten it): sets its file aside. Returns
  // how many events that were held are not any more.
  virtual std::uint64_t quarantine(const Uuid& segment) = 0;
};

}  // namespace sluice::spool
