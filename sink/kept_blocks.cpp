#include "sink/kept_blocks.hpp"

#include <algorithm>

namespace sluice::sink {
namespace {

std::size_t bytes_of(const spool::Block& block) {
  std::size_t bytes = 0;
  for (const spool::Chunk& chunk : block.chunks) bytes += chunk.capacity_bytes();
  return bytes;
}

}  // namespace

spool::BlockPtr KeptBlocks::find(std::uint64_t index) const {
  const auto found =
      std::find_if(blocks_.begin(), blocks_.end(), [&](const spool::BlockPtr& block) {
        return block->first_index <= index && index < block->end_index();
      });
  return found == blocks_.end() ? nullptr : *found;
}

void KeptBlocks::keep(const spool::BlockPtr& block) {
  if (!blocks_.empty() && block->first_index < blocks_.back()->end_index()) return;
  const std::size_t bytes = bytes_of(*block);
  if (!blocks_.empty() && bytes_ + bytes > kBytesMax) return;
  blocks_.push_back(block);
  bytes_ += bytes;
}

void KeptBlocks::forget_below(std::uint64_t index) {
  while (!blocks_.empty() && blocks_.front()->end_index() <= index) {
    bytes_ -= bytes_of(*blocks_.front());
    blocks_.pop_front();
  }
}

void KeptBlocks::clear() {
  blocks_.clear();
  bytes_ = 0;
}

}  // namespace sluice::sink
