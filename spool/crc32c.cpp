#include "spool/crc32c.hpp"

#include <isa-l/crc.h>

#include <algorithm>

namespace sluice::spool {

// ISA-L takes the length as an int, and the bytes as not const, though it does not change them.
void Crc32c::add(std::span<const std::byte> bytes) {
  constexpr std::size_t kPieceMax = std::size_t{1} << 30;
  while (!bytes.empty()) {
    const auto piece = bytes.first(std::min(bytes.size(), kPieceMax));
    auto* begin = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(piece.data()));
    state_ = crc32_iscsi(begin, static_cast<int>(piece.size()), state_);
    bytes = bytes.subspan(piece.size());
  }
}

}  // namespace sluice::spool
