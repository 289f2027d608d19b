// What the commands write for others to read: a write that fails is an error, never half an answer.
#pragma once

#include <string_view>

namespace sluice::daemon {

// To stdout, buffered. Throws std::system_error.
void print(std::string_view text);
// What is still in the buffer. Throws std::system_error.
void flush();

}  // namespace sluice::daemon
