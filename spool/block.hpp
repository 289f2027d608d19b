// A run of consecutive events of one segment, as the spool hands them to a lane.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "spool/chunk.hpp"
#include "spool/uuid.hpp"

namespace sluice::spool {

// A place in a lane's stream: the event with this index, 0-based, in this segment.
struct Position {
  Uuid segment;
  std::uint64_t index = 0;

  auto operator<=>(const Position&) const = default;
};

// Immutable once it was handed out: readers share it.
struct Block {
  Uuid segment;
  std::uint64_t first_index = 0;
  std::uint64_t count = 0;  // the records in all chunks together
  std::vector<Chunk> chunks;

  [[nodiscard]] std::uint64_t end_index() const { return first_index + count; }
};

using BlockPtr = std::shared_ptr<const Block>;

// Walks over a block's events. Keeps the block alive; what event() returns lives as long as the
// block.
class BlockCursor {
 public:
  BlockCursor() = default;
  // Stands on the event with `index`.
  // REQUIRES: block->first_index <= index <= block->end_index()
  BlockCursor(BlockPtr block, std::uint64_t index);

  [[nodiscard]] bool at_end() const { return !block_ || index_ == block_->end_index(); }
  // REQUIRES: !at_end()
  [[nodiscard]] EventView event() const {
    return EventView(block_->chunks[chunk_].bytes().data() + offset_);
  }
  [[nodiscard]] std::uint64_t index() const { return index_; }
  // Of the chunk that holds the event. REQUIRES: !at_end()
  [[nodiscard]] std::size_t chunk_bytes() const { return block_->chunks[chunk_].bytes().size(); }
  void advance();

 private:
  void skip_empty_chunks();

  BlockPtr block_;
  std::uint64_t index_ = 0;
  std::size_t chunk_ = 0;  // index_'s event is in chunks[chunk_] at offset_, unless at_end()
  std::size_t offset_ = 0;
};

}  // namespace sluice::spool
