// The two faces of the log between ingest and sink: what the journal appends to, and what each lane
// reads from. A spool in memory and one on disk both have them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <variant>
#include <vector>

#include "spool/block.hpp"

namespace sluice::spool {

using LaneIndex = std::size_t;

// The journal's face. Thread: the journal's.
class SpoolWriter {
 public:
  virtual ~SpoolWriter() = default;

  // The lane whose open segment takes the next block: the next in turn that has room. None while
  // every lane is full; the spool's `on_room` then tells when to ask again.
  [[nodiscard]] virtual std::optional<LaneIndex> lane_with_room() = 0;

  // Appends the chunks as one block to the lane's open segment. When it returns, the block is as
  // durable as the spool's durability promises, and the lane can read it.
  // REQUIRES: at least one record in all.
  virtual void append(LaneIndex lane, std::vector<Chunk> chunks) = 0;
};

// What read() found at a position.
struct NothingYet {};    // the end of the open segment: more may come
struct EndOfSegment {};  // the segment is sealed there: once released, first_segment() is the next
struct Gone {            // released already: the first index still here
  std::uint64_t first_index;
};
using ReadResult = std::variant<BlockPtr, NothingYet, EndOfSegment, Gone>;

// One lane's face. Thread: the sink's.
class SpoolReader {
 public:
  virtual ~SpoolReader() = default;

  // The oldest segment of this lane that has events which were not released, or the open one. None
  // before the first append.
  [[nodiscard]] virtual std::optional<Uuid> first_segment() = 0;

  // The block that holds the position's event.
  [[nodiscard]] virtual ReadResult read(const Position& position) = 0;

  // Everything before the position is committed: its memory (or file) may go.
  virtual void release(const Position& upto) = 0;

  // Events of this lane that are appended and not yet released.
  [[nodiscard]] virtual std::uint64_t events_held() const = 0;
};

}  // namespace sluice::spool
