// Finds programs, a user and directories that suit.
#include "daemon/dev_place.hpp"

#include <fmt/core.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "daemon/unix_address.hpp"

namespace sluice::daemon {

namespace {

namespace fs = std::filesystem;

// What is put behind the directory's path: a socket's name, with room for a temporary ending.
constexpr std::size_t kSocketNameBytes = 40;

// FNV-1a: the same for the same path, in every run of every build.
std::string digest(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return fmt::format("{:016x}", hash);
}

bool is_program(const fs::path& path) {
  return ::access(path.c_str(), X_OK) == 0;
}

bool holds_postgres(const fs::path& directory) {
  return is_program(directory / "initdb") && is_program(directory / "postgres");
}

// "15" before "9.6" before "14": by number, the greatest first.
std::vector<fs::path> debian_directories() {
  std::vector<fs::path> found;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator("/usr/lib/postgresql", none))
    found.push_back(entry.path() / "bin");
  const auto version = [](const fs::path& path) {
    return std::strtod(path.parent_path().filename().c_str(), nullptr);
  };
  std::sort(found.begin(), found.end(),
            [&](const fs::path& a, const fs::path& b) { return version(a) > version(b); });
  return found;
}

std::vector<fs::path> path_directories() {
  std::vector<fs::path> found;
  const char* const path = std::getenv("PATH");
  std::string_view rest = path ? path : "";
  while (!rest.empty()) {
    const std::size_t colon = rest.find(':');
    found.emplace_back(rest.substr(0, colon));
    rest.remove_prefix(colon == std::string_view::npos ? rest.size() : colon + 1);
  }
  return found;
}

fs::path find_postgres() {
  for (const auto& directories : {debian_directories(), path_directories()}) {
    for (const fs::path& directory : directories) {
      if (holds_postgres(directory)) return directory;
    }
  }
  throw DevError("Postgres is not installed: apt-get install postgresql");
}

std::optional<User> user_for_postgres() {
  if (::geteuid() != 0) return std::nullopt;
  for (const char* name : {"postgres", "nobody"}) {
    if (const passwd* entry = ::getpwnam(name)) return User{entry->pw_uid, entry->pw_gid};
  }
  throw DevError("Postgres does not run as root, and there is no user postgres or nobody");
}

bool can_reach(const std::optional<User>& user, const fs::path& directory) {
  if (!user) return true;
  return run_child({.arguments = {"/usr/bin/test", "-x", directory.string()},
                    .user = user,
                    .output = {},
                    .environment = {}}) == 0;
}

// In a place where everyone may write, where others may have made a directory of that name.
fs::path make_shared_directory(const fs::path& directory, const std::optional<User>& user) {
  ::mkdir(directory.c_str(), 0755);
  struct stat status {};
  const bool ours = ::lstat(directory.c_str(), &status) == 0 && S_ISDIR(status.st_mode) &&
                    (status.st_uid == ::geteuid() || (user && status.st_uid == user->uid));
  if (!ours) throw DevError(directory.string() + " belongs to somebody else: use --dir");
  fs::permissions(directory, fs::perms{0755});
  return directory;
}

fs::path reachable_directory(const fs::path& asked, const std::optional<User>& user) {
  const fs::path directory = fs::absolute(asked).lexically_normal();
  fs::create_directories(directory);
  if (can_reach(user, directory)) return directory;
  return make_shared_directory("/var/tmp/sluice-dev-" + digest(directory.string()), user);
}

fs::path sockets_directory(const fs::path& directory, const std::optional<User>& user) {
  const fs::path usual = directory / "run";
  if (usual.string().size() + kSocketNameBytes > kUnixPathBytesMax)
    return make_shared_directory("/tmp/sluice-dev-" + digest(directory.string()), user);
  fs::create_directories(usual);
  fs::permissions(usual, fs::perms{0755});
  return usual;
}

}  // namespace

void give_to(const std::optional<User>& user, const fs::path& path) {
  if (user && ::chown(path.c_str(), user->uid, user->gid) != 0)
    throw fs::filesystem_error("chown", path, std::error_code(errno, std::generic_category()));
}

DevPlace make_dev_place(const fs::path& asked) {
  DevPlace place;
  place.programs = find_postgres();
  place.postgres_user = user_for_postgres();
  place.directory = reachable_directory(asked, place.postgres_user);
  place.data = place.directory / "postgres";
  place.sockets = sockets_directory(place.directory, place.postgres_user);
  give_to(place.postgres_user, place.sockets);
  place.postgres_log = place.directory / "postgres.log";
  place.connection = place.directory / "connection";
  return place;
}

}  // namespace sluice::daemon
