// CRC-32C (Castagnoli) over several pieces, by the processor's own instruction where it has one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace sluice::spool {

// Value type: feed the pieces in order, then take the value().
class Crc32c {
 public:
  void add(std::span<const std::byte> bytes);
  // A trivially copyable value as its bytes in memory.
  template <typename T>
  void add_value(const T& value) {
    add(std::as_bytes(std::span<const T, 1>(&value, 1)));
  }
  [[nodiscard]] std::uint32_t value() const { return ~state_; }

 private:
  std::uint32_t state_ = 0xffffffff;
};

}  // namespace sluice::spool
