// Which known name was probably meant by one that is not known.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace sluice::config {

// How many single letters have to be put in, left out, changed or swapped with their neighbour.
[[nodiscard]] std::size_t edit_distance(std::string_view a, std::string_view b);

// The candidate with the least distance; the first of several. "" if none is near enough that it
// can be meant.
[[nodiscard]] std::string_view nearest_name(std::string_view name,
                                            std::span<const std::string_view> candidates);

}  // namespace sluice::config
