#include "spool/byte_budget.hpp"

namespace sluice::spool {

// Both sides store first and then look at the other's word, sequentially consistent: either
// want_room() sees the room or give_back() sees the wish.
bool ByteBudget::want_room() {
  wanted_.store(true, std::memory_order_seq_cst);
  if (used_.load(std::memory_order_seq_cst) >= bytes_max_) return true;
  return !wanted_.exchange(false, std::memory_order_seq_cst);
}

void ByteBudget::give_back(std::size_t bytes) {
  const std::size_t left = used_.fetch_sub(bytes, std::memory_order_seq_cst) - bytes;
  if (left >= bytes_max_) return;
  if (!wanted_.load(std::memory_order_seq_cst)) return;
  if (wanted_.exchange(false, std::memory_order_seq_cst) && on_room_) on_room_();
}

}  // namespace sluice::spool
