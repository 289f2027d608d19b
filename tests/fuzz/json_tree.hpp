// A JSON text read the plain way, one byte after the other, as a tree: what the fuzz targets hold
// the daemon's own readers against. It shares no code with them.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::fuzz {

struct JsonTree {
  struct Member;
  enum class Kind { null, boolean, number, string, array, object };

  Kind kind = Kind::null;
  std::string text;  // of a string what it stands for; else the scalar as it stands there
  std::vector<JsonTree> items;  // of an array
  std::vector<Member> members;  // of an object, in their order

  // By what they say; not by how they are written.
  bool operator==(const JsonTree& other) const;

  // The last member of the name; null if there is none.
  [[nodiscard]] const JsonTree* find(std::string_view name) const;
};

struct JsonTree::Member {
  std::string key;
  JsonTree value;

  bool operator==(const Member& other) const = default;
};

// What becomes of text that Postgres cannot store.
struct TextRules {
  enum class Nul { keep, replace, strip };

  Nul nul = Nul::keep;        // of the escape of U+0000
  bool replace_text = false;  // bad UTF-8 and halves of surrogate pairs become U+FFFD
};

// What was met on the way.
struct TextSeen {
  bool nul = false;
  bool bad_utf8 = false;
  bool lone_surrogate = false;
  std::size_t depth = 0;  // of the deepest object or array; 1: the outermost

  [[nodiscard]] bool is_clean() const { return !nul && !bad_utf8 && !lone_surrogate; }
};

// None if it is not one JSON value (RFC 8259) with nothing but white space around it. Without
// replace_text bad UTF-8 is taken as it is, and half a pair becomes U+FFFD.
[[nodiscard]] std::optional<JsonTree> read_json(std::string_view text, const TextRules& rules,
                                                TextSeen& seen);

}  // namespace sluice::fuzz
