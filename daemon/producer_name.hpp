// The names under which `sluice send` numbers its lines.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace sluice::daemon {

// The daemon refuses a longer one.
inline constexpr std::size_t kProducerNameBytesMax = 200;

// The same for the same lines, so that they are not sent twice: of host, user, the file's absolute
// path, which file that is, and its first line. A file that was put in the place of another is
// another producer; one that was truncated and written anew with the same first line is not.
// REQUIRES: a regular file, open at `fd`, whose position is not changed.
[[nodiscard]] std::string name_of_file(const std::string& path, int fd);

// One that nobody had before; of the prefix as much as leaves room for that.
[[nodiscard]] std::string random_name(std::string_view prefix);

}  // namespace sluice::daemon
