// The client's end of a Unix socket.
#pragma once

#include <sys/un.h>

#include <cstddef>
#include <string>

namespace sluice::daemon {

inline constexpr std::size_t kUnixPathBytesMax = sizeof(sockaddr_un::sun_path) - 1;

// A connected stream socket (the caller's to close), or -1 with errno set.
[[nodiscard]] int connect_unix(const std::string& path);

}  // namespace sluice::daemon
