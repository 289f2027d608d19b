// The names under which `sluice send` numbers its lines.
#pragma once

#include <cstddef>
#include <string>

namespace sluice::daemon {

// The daemon refuses a longer one.
inline constexpr std::size_t kProducerNameBytesMax = 200;

// The same for the same lines, so that they are not sent twice: of host, user, the file's absolute
// path and its first line. A file that was rotated or written anew begins with another line, and is
// another producer. REQUIRES: a regular file, open at `fd`, whose position is not changed.
[[nodiscard]] std::string name_of_file(const std::string& path, int fd);

// One that nobody had before.
[[nodiscard]] std::string random_name(const std::string& prefix);

}  // namespace sluice::daemon
