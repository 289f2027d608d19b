// Finds a fixed set of places in JSON by one walk over the text.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sink/json_value.hpp"

namespace sluice::sink {

struct JsonMember;

// A JSON pointer's tokens (RFC 6901), unescaped. REQUIRES: empty, or begins with '/'.
[[nodiscard]] std::vector<std::string> pointer_tokens(std::string_view pointer);

// Made once for a set of paths, then used for many texts. Of members with equal keys the last
// counts, as in jsonb. A token that is a number is a place in an array or a key of an object,
// whichever is there.
//
// Thread: any, it never changes.
class JsonLookup final {
 public:
  JsonLookup() = default;

  // Each path has a slot, given by the caller, no two the same one; what is found goes there.
  // REQUIRES: no path is empty.
  void add(std::span<const std::string> path, std::size_t slot);

  [[nodiscard]] bool empty() const { return nodes_.front().children.empty(); }

  // The paths begin in `value`. Slots of paths that are not there are left alone.
  void find_in(std::string_view value, std::span<JsonValue> found) const;
  // The paths begin with the keys of these members: `"key":value[,"key":value]*`. Members that are
  // taken whole, which a path of one token does, are added to `whole`, with their keys.
  void find_in_members(std::string_view members, std::span<JsonValue> found,
                       std::vector<std::string_view>& whole) const;

 private:
  struct Child {
    std::string key;
    std::optional<std::size_t> index;  // the key as a place in an array
    std::size_t node;
  };
  struct Node {
    std::vector<Child> children{};
    std::optional<std::size_t> slot{};
  };

  [[nodiscard]] const char* walk(const Node& node, const char* at, const char* end,
                                 std::span<JsonValue> found) const;
  [[nodiscard]] const char* walk_object(const Node& node, const char* at, const char* end,
                                        std::span<JsonValue> found) const;
  [[nodiscard]] const char* walk_array(const Node& node, const char* at, const char* end,
                                       std::span<JsonValue> found) const;
  [[nodiscard]] const Node* child_of(const Node& node, const JsonMember& member) const;
  void forget(const Node& node, std::span<JsonValue> found) const;

  std::vector<Node> nodes_{1};  // the first is the root
};

}  // namespace sluice::sink
