#include "spool/uuid.hpp"

#include <sys/random.h>

#include <cerrno>
#include <system_error>

namespace sluice::spool {
namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Crockford's alphabet leaves out I, L, O and U; -1 for what is not in it.
int base32_value(char c) {
  constexpr std::string_view kAlphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
  if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  const auto at = kAlphabet.find(c);
  return at == std::string_view::npos ? -1 : static_cast<int>(at);
}

bool hyphen_follows(std::size_t byte) {
  return byte == 3 || byte == 5 || byte == 7 || byte == 9;
}

}  // namespace

Uuid Uuid::random() {
  Uuid uuid;
  while (getrandom(uuid.bytes.data(), uuid.bytes.size(), 0) !=
         static_cast<ssize_t>(uuid.bytes.size())) {
    if (errno != EINTR) throw std::system_error(errno, std::generic_category(), "getrandom");
  }
  uuid.bytes[6] = static_cast<std::uint8_t>((uuid.bytes[6] & 0x0f) | 0x40);
  uuid.bytes[8] = static_cast<std::uint8_t>((uuid.bytes[8] & 0x3f) | 0x80);
  return uuid;
}

std::optional<Uuid> Uuid::parse(std::string_view text) {
  if (text.size() != 36) return std::nullopt;
  Uuid uuid;
  std::size_t at = 0;
  for (std::size_t i = 0; i < uuid.bytes.size(); ++i) {
    const int high = hex_value(text[at]);
    const int low = hex_value(text[at + 1]);
    if (high < 0 || low < 0) return std::nullopt;
    uuid.bytes[i] = static_cast<std::uint8_t>(high * 16 + low);
    at += 2;
    if (hyphen_follows(i) && text[at++] != '-') return std::nullopt;
  }
  return uuid;
}

std::optional<Uuid> Uuid::parse_ulid(std::string_view text) {
  if (text.size() != 26) return std::nullopt;
  // 26 digits of 5 bits are 130 bits: the first digit may only be 0..7.
  if (base32_value(text[0]) > 7) return std::nullopt;
  Uuid uuid;
  unsigned bits = 0;
  int bit_count = -2;
  std::size_t byte = 0;
  for (const char c : text) {
    const int value = base32_value(c);
    if (value < 0) return std::nullopt;
    bits = (bits << 5 | static_cast<unsigned>(value)) & 0xffff;
    bit_count += 5;
    if (bit_count >= 8) {
      bit_count -= 8;
      uuid.bytes[byte++] = static_cast<std::uint8_t>(bits >> bit_count);
    }
  }
  return uuid;
}

std::string Uuid::text() const {
  std::string text;
  text.reserve(36);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    text += kHexDigits[bytes[i] >> 4];
    text += kHexDigits[bytes[i] & 15];
    if (hyphen_follows(i)) text += '-';
  }
  return text;
}

}  // namespace sluice::spool
