#include "spool/sha256.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <cstdlib>
#include <memory>

namespace sluice::spool {
namespace {

struct ContextFree {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};

}  // namespace

// Looking the algorithm up and making a context cost more than the hash of a short text; so both
// are kept.
Sha256 sha256(std::string_view text) {
  static const EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  thread_local const std::unique_ptr<EVP_MD_CTX, ContextFree> context(EVP_MD_CTX_new());
  Sha256 hash{};
  // They fail only where libcrypto has no SHA-256 or there is no memory.
  if (algorithm == nullptr || context == nullptr ||
      EVP_DigestInit_ex2(context.get(), algorithm, nullptr) != 1 ||
      EVP_DigestUpdate(context.get(), text.data(), text.size()) != 1 ||
      EVP_DigestFinal_ex(context.get(), hash.data(), nullptr) != 1) {
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
  std::string text;
  text.reserve(digits);
  for (std::size_t i = 0; i < digits; ++i) {
    const unsigned char byte = hash[i / 2];
    text += kHex[i % 2 == 0 ? byte >> 4 : byte & 15];
  }
  return text;
}

}  // namespace sluice::spool
