#include "ingest/route_rule.hpp"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cstdint>
#include <cstring>

#include "ingest/json_steps.hpp"
#include "spool/sha256.hpp"

namespace sluice::ingest {
namespace {

constexpr std::uint32_t kMissing = 0xffffffff;
constexpr std::size_t kKeyDigits = 32;

// The first characters of UTF-8 text.
std::string_view first_characters(std::string_view text, std::size_t characters) {
  std::size_t count = 0;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const bool begins_one = (static_cast<unsigned char>(text[at]) & 0xc0) != 0x80;
    if (begins_one && count++ == characters) return text.substr(0, at);
  }
  return text;
}

std::vector<std::string> patterns_of(const std::vector<RouteRule>& rules) {
  std::vector<std::string> patterns;
  for (const RouteRule& rule : rules) patterns.push_back(rule.match);
  return patterns;
}

RouteRules::Value value_of(const KeyPart& part, const std::vector<std::string>& time_fields) {
  RouteRules::Value value;
  value.characters_max = part.characters_max;
  if (part.from == "time") {
    value.names = time_fields;
  } else if (!part.from.starts_with('/')) {
    value.names = {part.from};
  } else {
    value.tokens = pointer_tokens(part.from);
    value.names = {value.tokens.front()};
    value.tokens.erase(value.tokens.begin());
  }
  return value;
}

}  // namespace

RouteRules::RouteRules(const std::vector<RouteRule>& rules,
                       const std::vector<std::string>& time_fields)
    : match_(patterns_of(rules)) {
  for (const RouteRule& rule : rules) {
    Key& key = keys_.emplace_back();
    for (const KeyPart& part : rule.dedupe) key.parts.push_back(value_of(part, time_fields));
    if (!rule.dedupe_if.empty()) key.condition = value_of({rule.dedupe_if, 0}, time_fields);
    key.domain = XXH3_64bits(rule.match.data(), rule.match.size());
  }
}

void ComputedKey::clear() {
  joined_.clear();
  lengths_.clear();
  has_values_ = false;
}

void ComputedKey::add(std::optional<std::string_view> text, std::size_t characters_max) {
  if (!lengths_.empty()) joined_ += '|';
  std::uint32_t length = kMissing;
  if (text) {
    if (characters_max != 0) text = first_characters(*text, characters_max);
    joined_ += *text;
    length = static_cast<std::uint32_t>(text->size());
    has_values_ = true;
  }
  char raw[sizeof(length)];
  std::memcpy(raw, &length, sizeof(length));
  lengths_.append(raw, sizeof(length));
}

std::string_view ComputedKey::bytes() {
  bytes_ = joined_;
  bytes_ += lengths_;
  return bytes_;
}

std::string ComputedKey::digits() const {
  return spool::hex_text(spool::sha256(joined_), kKeyDigits);
}

}  // namespace sluice::ingest
