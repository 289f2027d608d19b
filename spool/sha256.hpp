// SHA-256, by libcrypto, whose one home this is.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

namespace sluice::spool {

using Sha256 = std::array<unsigned char, 32>;

[[nodiscard]] Sha256 sha256(std::string_view text);

// HMAC-SHA-256 of the text: without the key nobody can tell what the text was by trying texts.
[[nodiscard]] Sha256 hmac_sha256(std::string_view key, std::string_view text);

// The first `digits` of its hexadecimal digits, lower case. REQUIRES: digits <= 64
[[nodiscard]] std::string hex_text(const Sha256& hash, std::size_t digits);

}  // namespace sluice::spool
