#include "spool/sha256.hpp"

// SHA256_Init() and its like are deprecated; why they are used is said below.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>

#include <cstdlib>

namespace sluice::spool {
// Of a short text, by the functions of the algorithm itself: EVP, even with its algorithm and
// context kept, takes half as long again.
Sha256 sha256(std::string_view text) {
  Sha256 hash{};
  SHA256_CTX context;
  // They fail only where they are misused.
  if (SHA256_Init(&context) != 1 || SHA256_Update(&context, text.data(), text.size()) != 1 ||
      SHA256_Final(hash.data(), &context) != 1) {
    std::abort();
  }
  return hash;
}

Sha256 hmac_sha256(std::string_view key, std::string_view text) {
  Sha256 hash{};
  unsigned int bytes = 0;
  const auto* const made =
      HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
           reinterpret_cast<const unsigned char*>(text.data()), text.size(), hash.data(), &bytes);
  // It fails only where libcrypto has no SHA-256 or there is no memory.
  if (made == nullptr || bytes != hash.size()) std::abort();
  return hash;
}

std::string hex_text(const Sha256& hash, std::size_t digits) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string text(digits, '\0');
  for (std::size_t i = 0; i < digits; ++i) {
    const unsigned char byte = hash[i / 2];
    text[i] = kHex[i % 2 == 0 ? byte >> 4 : byte & 15];
  }
  return text;
}

}  // namespace sluice::spool
