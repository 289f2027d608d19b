// Edit distance as of Damerau (optimal string alignment).
#include "config/nearest_name.hpp"

#include <algorithm>
#include <vector>

namespace sluice::config {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  const std::size_t columns = b.size() + 1;
  std::vector<std::size_t> distance((a.size() + 1) * columns);
  for (std::size_t i = 0; i <= a.size(); ++i) distance[i * columns] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) distance[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      std::size_t& here = distance[i * columns + j];
      const std::size_t change = a[i - 1] == b[j - 1] ? 0 : 1;
      here = std::min({distance[(i - 1) * columns + j] + 1, distance[i * columns + j - 1] + 1,
                       distance[(i - 1) * columns + j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        here = std::min(here, distance[(i - 2) * columns + j - 2] + 1);
    }
  }
  return distance.back();
}

std::string_view nearest_name(std::string_view name, std::span<const std::string_view> candidates) {
  std::string_view nearest;
  // Half of the name may differ; more is another word.
  std::size_t least = std::max<std::size_t>(1, name.size() / 2) + 1;
  for (const std::string_view candidate : candidates) {
    const std::size_t distance = edit_distance(name, candidate);
    if (distance >= least) continue;
    least = distance;
    nearest = candidate;
  }
  return nearest;
}

}  // namespace sluice::config
