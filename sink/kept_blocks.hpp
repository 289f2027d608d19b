// The blocks that a lane's batch is being made of, so that rows which have to be sent again need no
// second look into the spool.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>

#include "spool/block.hpp"

namespace sluice::sink {

// Blocks of one segment, by rising index. Keeps the first ones where there are too many: what is
// sent again begins with them.
//
// Thread: the sink's.
class KeptBlocks final {
 public:
  static constexpr std::size_t kBytesMax = 2u << 20;

  // The block that holds the event with this index; null: it is not kept.
  [[nodiscard]] spool::BlockPtr find(std::uint64_t index) const;
  // Does nothing where the block is kept already, or there is no room beside others.
  void keep(const spool::BlockPtr& block);
  // Drops the blocks that end at the index or before it.
  void forget_below(std::uint64_t index);
  void clear();

 private:
  std::deque<spool::BlockPtr> blocks_;
  std::size_t bytes_ = 0;
};

}  // namespace sluice::sink
