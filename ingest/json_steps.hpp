// Steps over JSON that was found to be valid, and what its strings stand for.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sluice::ingest {

// Each takes a place in the text and returns one further on. Bytes that are no UTF-8 do not matter.

// The first place from `at` on that is no space; json.size() if there is none.
[[nodiscard]] std::size_t skip_json_space(std::string_view json, std::size_t at);
// Past the closing quote. REQUIRES: a string opens at `at`.
[[nodiscard]] std::size_t skip_json_string(std::string_view json, std::size_t at);
// Past the value. REQUIRES: one begins at `at`, and stands in an object or an array.
[[nodiscard]] std::size_t skip_json_value(std::string_view json, std::size_t at);

// The text of a string literal, given without its quotes. Half a surrogate pair becomes U+FFFD.
[[nodiscard]] std::string decoded_json(std::string_view literal);

// "/a~1b/0" -> "a/b", "0". REQUIRES: the pointer begins with '/'.
[[nodiscard]] std::vector<std::string> pointer_tokens(std::string_view pointer);
// The value that the tokens lead to from this one, as it stands in the text; of members that share
// a key the last. None: there is none.
[[nodiscard]] std::optional<std::string_view> follow_pointer(std::string_view value,
                                                             std::span<const std::string> tokens);

}  // namespace sluice::ingest
