// What a JSON pointer (RFC 6901) looks like.
#pragma once

#include <string_view>

namespace sluice::config {

// Whether `~` stands in it only as ~0 and ~1. REQUIRES: the text begins with '/'.
[[nodiscard]] bool is_json_pointer(std::string_view text);

}  // namespace sluice::config
