// Integers in network order, as all of Postgres's binary formats have them.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

namespace sluice::sink {

static_assert(std::endian::native == std::endian::little);

// Each writes to `out` and returns the end of what it wrote.
inline char* put_u16(char* out, std::uint16_t value) {
  value = __builtin_bswap16(value);
  std::memcpy(out, &value, sizeof value);
  return out + sizeof value;
}
inline char* put_u32(char* out, std::uint32_t value) {
  value = __builtin_bswap32(value);
  std::memcpy(out, &value, sizeof value);
  return out + sizeof value;
}
inline char* put_u64(char* out, std::uint64_t value) {
  value = __builtin_bswap64(value);
  std::memcpy(out, &value, sizeof value);
  return out + sizeof value;
}

}  // namespace sluice::sink
