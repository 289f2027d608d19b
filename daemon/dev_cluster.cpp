// Runs initdb and postgres as the user that they want.
#include "daemon/dev_cluster.hpp"

#include <fmt/core.h>

#include <csignal>
#include <fstream>
#include <system_error>
#include <thread>

#include "config/model.hpp"
#include "daemon/blocking_postgres.hpp"
#include "daemon/command_schema.hpp"

namespace sluice::daemon {

namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

constexpr milliseconds kLookInterval{50};
// Processes of a server that was killed go on for a moment and hold its shared memory.
constexpr int kStartTries = 20;
constexpr milliseconds kStartPause{500};
constexpr std::chrono::seconds kStopPatience{60};
constexpr const char* kUser = "postgres";
constexpr const char* kDatabase = "sluice";

// As a value of a connection string.
std::string dsn_value(const std::string& text) {
  std::string value = "'";
  for (const char c : text) {
    if (c == '\'' || c == '\\') value += '\\';
    value += c;
  }
  return value + "'";
}

// The option takes a list of names, in which quotes keep commas and spaces together.
std::string directory_list(const fs::path& directory) {
  std::string list = "\"";
  for (const char c : directory.string()) list += c == '"' ? "\"\"" : std::string(1, c);
  return list + "\"";
}

std::string dsn_of(const DevPlace& place, const char* database) {
  return fmt::format("host={} user={} dbname={}", dsn_value(place.sockets.string()), kUser,
                     database);
}

// The server that postmaster.pid names, if it is one of this cluster: Postgres works in its data
// directory, so another process that got the number by chance does not count.
std::optional<pid_t> running_postmaster(const fs::path& data) {
  std::ifstream file(data / "postmaster.pid");
  pid_t pid = 0;
  if (!(file >> pid) || pid <= 1) return std::nullopt;
  std::error_code unreadable;
  const fs::path directory = fs::read_symlink(fmt::format("/proc/{}/cwd", pid), unreadable);
  if (unreadable || !fs::equivalent(directory, data, unreadable)) return std::nullopt;
  return pid;
}

bool wait_until_gone(const fs::path& data) {
  for (milliseconds waited{0}; waited < kStopPatience; waited += kLookInterval) {
    if (!running_postmaster(data)) return true;
    std::this_thread::sleep_for(kLookInterval);
  }
  return false;
}

}  // namespace

DevCluster::DevCluster(const DevPlace& place, const config::ModelOptions& model,
                       bool (*stop_asked)())
    : place_(place), dsn_(dsn_of(place, kDatabase)) {
  make_if_missing();
  end_leftover();
  start();
  try {
    wait_until_it_answers(stop_asked);
    make_database();
    static_cast<void>(apply_model(dsn_, model));
  } catch (...) {
    stop();
    throw;
  }
}

DevCluster::~DevCluster() {
  stop();
}

// In a directory of another name first: an initdb that is cut short leaves nothing that looks
// whole.
void DevCluster::make_if_missing() const {
  if (fs::exists(place_.data / "PG_VERSION")) return;
  fmt::print("making a Postgres cluster in {}\n", place_.data.string());
  const fs::path unfinished = place_.data.string() + ".new";
  fs::remove_all(unfinished);
  fs::create_directory(unfinished);
  give_to(place_.postgres_user, unfinished);
  const int code =
      run_child({.arguments = {place_.programs / "initdb", "-D", unfinished.string(), "-U", kUser,
                               "--auth=trust", "-E", "UTF8", "--locale=C", "--no-instructions"},
                 .user = place_.postgres_user,
                 .output = place_.postgres_log,
                 .environment = {}});
  if (code != 0)
    throw DevError(fmt::format("initdb failed ({}): see {}", code, place_.postgres_log.string()));
  fs::rename(unfinished, place_.data);
}

void DevCluster::end_leftover() const {
  const auto pid = running_postmaster(place_.data);
  if (pid) {
    fmt::print("ending the Postgres that an earlier run left behind (process {})\n", *pid);
    ::kill(*pid, SIGINT);
    if (!wait_until_gone(place_.data))
      throw DevError(fmt::format("the Postgres of an earlier run, process {}, does not end", *pid));
  }
  // Postgres would not start while any process, a zombie too, has the number that stands there.
  fs::remove(place_.data / "postmaster.pid");
  fs::remove(place_.sockets / ".s.PGSQL.5432.lock");
}

void DevCluster::start() {
  const auto setting = [](const char* name, const std::string& value) {
    return fmt::format("{}={}", name, value);
  };
  ChildOptions options{
      .arguments = {place_.programs / "postgres", "-D", place_.data.string(), "-c",
                    setting("listen_addresses", ""), "-c",
                    setting("unix_socket_directories", directory_list(place_.sockets)), "-c",
                    setting("unix_socket_permissions", "0700"), "-c", setting("port", "5432")},
      .user = place_.postgres_user,
      .output = place_.postgres_log,
      .environment = {}};
  server_ = std::make_unique<ChildProcess>(options);
  for (int tries = 1; tries < kStartTries && server_->wait(kStartPause); ++tries)
    server_ = std::make_unique<ChildProcess>(options);
}

void DevCluster::wait_until_it_answers(bool (*stop_asked)()) {
  for (;;) {
    if (stop_asked()) throw DevError("stopped");
    if (server_->exit_code())
      throw DevError("Postgres does not start: see " + place_.postgres_log.string());
    try {
      BlockingPostgres(dsn_of(place_, "postgres"));
      return;
    } catch (const PostgresError&) {
      // Recovering from a crash may take it a while.
      std::this_thread::sleep_for(kLookInterval);
    }
  }
}

void DevCluster::make_database() const {
  BlockingPostgres postgres(dsn_of(place_, "postgres"));
  const std::string there =
      postgres.value(fmt::format("SELECT 1 FROM pg_database WHERE datname = '{}'", kDatabase));
  if (there.empty()) postgres.run(fmt::format("CREATE DATABASE {}", kDatabase), kStopPatience);
}

void DevCluster::stop() {
  for (const int number : {SIGINT, SIGQUIT}) {  // fast, immediate
    server_->signal(number);
    if (server_->wait(kStopPatience)) return;
  }
}

}  // namespace sluice::daemon
