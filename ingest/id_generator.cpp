#include "ingest/id_generator.hpp"

namespace sluice::ingest {
namespace {

constexpr std::uint32_t kCounterMax = (1u << 26) - 1;

}  // namespace

spool::Uuid IdGenerator::next(std::int64_t now_us) {
  const auto now_ms = static_cast<std::uint64_t>(now_us / 1000);
  const std::uint64_t random = random_();
  if (now_ms > last_ms_) {
    last_ms_ = now_ms;
    counter_ = static_cast<std::uint32_t>(random_() & (kCounterMax >> 1));
  } else if (++counter_ > kCounterMax) {
    ++last_ms_;
    counter_ = 0;
  }

  const std::uint64_t high = last_ms_ << 16 | 0x7000 | counter_ >> 14;
  const std::uint64_t low =
      std::uint64_t{2} << 62 | std::uint64_t{counter_ & 0x3fff} << 48 | (random & 0xffffffffffff);
  spool::Uuid uuid;
  for (unsigned i = 0; i < 8; ++i) {
    uuid.bytes[i] = static_cast<std::uint8_t>(high >> (56 - 8 * i));
    uuid.bytes[8 + i] = static_cast<std::uint8_t>(low >> (56 - 8 * i));
  }
  return uuid;
}

}  // namespace sluice::ingest
