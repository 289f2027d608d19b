#include "ingest/read_gate.hpp"

#include <algorithm>
#include <utility>

namespace sluice::ingest {

std::size_t ReadGate::ask(Reader& reader) {
  const bool has_room = room_line_.empty() && budget_.has_room();
  const bool quietly = !has_room && grant_quiet_room(reader);
  if (!quietly && !grant_room(reader)) return 0;
  const std::size_t bytes = grant_carry(reader);
  if (bytes == 0) hand_on_room();
  return quietly ? std::min(bytes, kQuietReadBytes) : bytes;
}

ReadGate::Grant ReadGate::ask_without_waiting(Reader& reader) {
  const bool has_room = room_line_.empty() && budget_.has_room();
  const bool quietly = !has_room && grant_quiet_room(reader);
  const std::size_t bytes = grant_carry(reader);
  return {quietly ? std::min(bytes, kQuietReadBytes) : bytes, has_room || quietly};
}

bool ReadGate::grant_quiet_room(Reader& reader) {
  const std::size_t bytes_max = budget_.bytes_max() + budget_.bytes_max() / kQuietShare;
  if (!reader.quiet_ || budget_.used_bytes() >= bytes_max) return false;
  std::erase(room_line_, &reader);
  return true;
}

bool ReadGate::grant_room(Reader& reader) {
  const bool first = room_line_.empty() || room_line_.front() == &reader;
  if (first && (budget_.has_room() || !budget_.want_room())) {
    if (!room_line_.empty()) room_line_.pop_front();
    return true;
  }
  if (std::find(room_line_.begin(), room_line_.end(), &reader) == room_line_.end()) {
    room_line_.push_back(&reader);
    add(counters_.budget_waits, 1);
  }
  return false;
}

std::size_t ReadGate::grant_carry(Reader& reader) {
  if (reserve_holder_ == &reader || carry_bytes_ < carry_bytes_max_) return kReadBytesMax;
  if (reader.carry_bytes_ < kCarryFloorBytes) return kCarryFloorBytes - reader.carry_bytes_;
  if (reserve_holder_ == nullptr) {
    reserve_holder_ = &reader;
    return kReadBytesMax;
  }
  if (std::find(carry_line_.begin(), carry_line_.end(), &reader) == carry_line_.end()) {
    carry_line_.push_back(&reader);
  }
  return 0;
}

void ReadGate::done(Reader& reader, std::size_t read_bytes, std::size_t carry_bytes) {
  reader.quiet_ = read_bytes < kQuietReadBytes;
  set_carry(reader, carry_bytes);
  if (reserve_holder_ == &reader && carry_bytes < kCarryFloorBytes) hand_on_reserve();
  hand_on_room();
}

void ReadGate::leave(Reader& reader) {
  std::erase(room_line_, &reader);
  std::erase(carry_line_, &reader);
  set_carry(reader, 0);
  if (reserve_holder_ == &reader) hand_on_reserve();
  hand_on_room();
}

void ReadGate::room_came() {
  if (!room_line_.empty()) room_line_.front()->wake();
}

void ReadGate::set_carry(Reader& reader, std::size_t carry_bytes) {
  carry_bytes_ += carry_bytes;
  carry_bytes_ -= std::exchange(reader.carry_bytes_, carry_bytes);
  if (carry_bytes_ >= carry_bytes_max_) return;
  for (Reader* waiter : std::exchange(carry_line_, {})) waiter->wake();
}

void ReadGate::hand_on_reserve() {
  reserve_holder_ = nullptr;
  if (carry_line_.empty()) return;
  reserve_holder_ = carry_line_.front();
  carry_line_.pop_front();
  reserve_holder_->wake();
}

void ReadGate::hand_on_room() {
  if (room_line_.empty()) return;
  if (budget_.has_room() || !budget_.want_room()) room_line_.front()->wake();
}

}  // namespace sluice::ingest
