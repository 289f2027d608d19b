// What a match of types looks like: a whole type, or the beginning of types and a `*`.
#pragma once

#include <string_view>

namespace sluice::config {

// Whether a `*` stands where it would be an ordinary character.
[[nodiscard]] inline bool has_inner_star(std::string_view match) {
  const std::size_t star = match.find('*');
  return star != std::string_view::npos && star + 1 != match.size();
}

}  // namespace sluice::config
