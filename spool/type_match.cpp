#include "spool/type_match.hpp"

#include <utility>

namespace sluice::spool {
namespace {

constexpr std::size_t kTypesMax = 1'000;
// So many are looked through in less time than a hash takes.
constexpr std::size_t kFewPatterns = 8;

}  // namespace

TypeMatch::TypeMatch(std::vector<std::string> patterns) : patterns_(std::move(patterns)) {
  last_found_ = look_up(last_type_);
}

std::optional<std::size_t> TypeMatch::find(std::string_view type) {
  if (patterns_.size() <= kFewPatterns) return look_up(type);
  if (type == last_type_) return last_found_;
  const auto known = known_.find(type);
  last_found_ = known == known_.end() ? look_up(type) : known->second;
  last_type_ = type;
  if (known == known_.end() && known_.size() < kTypesMax) known_.emplace(type, last_found_);
  return last_found_;
}

std::optional<std::size_t> TypeMatch::look_up(std::string_view type) {
  for (std::size_t i = 0; i < patterns_.size(); ++i) {
    if (fits_pattern(type, patterns_[i])) return i;
  }
  return std::nullopt;
}

bool fits_pattern(std::string_view type, std::string_view pattern) {
  if (!pattern.ends_with('*')) return type == pattern;
  return type.starts_with(pattern.substr(0, pattern.size() - 1));
}

bool covers_pattern(std::string_view earlier, std::string_view later) {
  if (!earlier.ends_with('*')) return earlier == later;
  return fits_pattern(later.ends_with('*') ? later.substr(0, later.size() - 1) : later, earlier);
}

}  // namespace sluice::spool
