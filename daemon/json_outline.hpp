// JSON as people read it on a terminal: a member a line, indented, and nothing that is empty.
#pragma once

#include <string>
#include <string_view>

namespace sluice::daemon {

// Of each object the plain members stand first, in their order, and then those that hold others.
// Left out are nulls, empty arrays and objects, and what holds nothing else. A text of several
// lines stands on lines of its own, each behind "| ". What holds others stands apart by an empty
// line where nothing is around it. Control characters come out as printable()
// has them. Ends in a newline, or is empty.
//
// REQUIRES: it is valid JSON.
[[nodiscard]] std::string json_outline(std::string_view json);

}  // namespace sluice::daemon
