// Where `sluice dev` keeps its things, and as whom Postgres runs there.
#pragma once

#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>

#include "daemon/child_process.hpp"

namespace sluice::daemon {

// The machine lacks something that a person can put there.
class DevError final : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct DevPlace {
  std::filesystem::path directory;  // everything lies below it, but perhaps the sockets
  std::filesystem::path data;       // the cluster
  std::filesystem::path sockets;    // a short path: sockets' names are limited
  std::filesystem::path postgres_log;
  std::filesystem::path connection;   // shell variables that say where things are, while it runs
  std::filesystem::path programs;     // of Postgres
  std::optional<User> postgres_user;  // set when this process is root, whom Postgres refuses

  [[nodiscard]] std::filesystem::path events_socket() const { return sockets / "events.sock"; }
};

// Makes the directories. Where Postgres's user cannot reach `asked` (below /root, say), or where
// the path is too long for a socket, another directory is taken that follows from `asked`, so that
// a second run finds it again. Throws DevError, std::filesystem::filesystem_error.
[[nodiscard]] DevPlace make_dev_place(const std::filesystem::path& asked);

// Makes the path the user's, if there is one.
void give_to(const std::optional<User>& user, const std::filesystem::path& path);

}  // namespace sluice::daemon
