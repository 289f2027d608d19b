// Which of several patterns an event's type fits first.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sluice::spool {

// A pattern is a whole type, or the beginning of types and a `*` ("tool.*", "*"). The `*` stands
// only at the end; anywhere else it means itself.
//
// Of many patterns it remembers what it found, for a bounded number of types, so that asking again
// costs a hash; asking for the same type as the last time costs a comparison.
//
// Thread: one.
class TypeMatch final {
 public:
  TypeMatch() = default;
  explicit TypeMatch(std::vector<std::string> patterns);

  // The index of the first pattern that the type fits. `type` is the text itself, not JSON.
  [[nodiscard]] std::optional<std::size_t> find(std::string_view type);

  [[nodiscard]] const std::vector<std::string>& patterns() const { return patterns_; }

 private:
  struct TextHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const {
      return std::hash<std::string_view>()(text);
    }
  };

  [[nodiscard]] std::optional<std::size_t> look_up(std::string_view type);

  std::vector<std::string> patterns_;
  std::string last_type_;
  std::optional<std::size_t> last_found_;  // of last_type_
  // At most kTypesMax entries: producers name the types.
  std::unordered_map<std::string, std::optional<std::size_t>, TextHash, std::equal_to<>> known_;
};

// Whether the type fits the pattern.
[[nodiscard]] bool fits_pattern(std::string_view type, std::string_view pattern);

// Whether every type that fits `later` fits `earlier` too: behind it, it is never reached.
[[nodiscard]] bool covers_pattern(std::string_view earlier, std::string_view later);

}  // namespace sluice::spool
