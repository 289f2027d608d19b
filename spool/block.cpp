#include "spool/block.hpp"

#include <utility>

namespace sluice::spool {

BlockCursor::BlockCursor(BlockPtr block, std::uint64_t index)
    : block_(std::move(block)), index_(block_->first_index) {
  while (chunk_ < block_->chunks.size() && index_ + block_->chunks[chunk_].count() <= index) {
    index_ += block_->chunks[chunk_++].count();
  }
  while (index_ < index) advance();
}

void BlockCursor::advance() {
  offset_ += event().header().record_bytes;
  ++index_;
  if (offset_ == block_->chunks[chunk_].bytes().size()) {
    offset_ = 0;
    ++chunk_;
    skip_empty_chunks();
  }
}

void BlockCursor::skip_empty_chunks() {
  while (chunk_ < block_->chunks.size() && block_->chunks[chunk_].empty()) ++chunk_;
}

}  // namespace sluice::spool
