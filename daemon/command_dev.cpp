// Starts Postgres, then the daemon as a process of its own; stops them the other way round.
#include "daemon/command_dev.hpp"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "daemon/blocking_postgres.hpp"
#include "daemon/child_process.hpp"
#include "daemon/dev_cluster.hpp"
#include "daemon/dev_place.hpp"
#include "daemon/exit_code.hpp"
#include "daemon/file_lock.hpp"
#include "daemon/unix_address.hpp"

namespace sluice::daemon {

namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

constexpr std::uint16_t kMetricsPort = 9464;
constexpr milliseconds kReadyPatience{20'000};
constexpr milliseconds kLookInterval{50};
// On top of the daemon's own drain_timeout.
constexpr std::chrono::seconds kStopPatience{10};

sigset_t stop_signals() {
  sigset_t signals;
  sigemptyset(&signals);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, number);
  return signals;
}

// True if one of the blocked signals came within `timeout`.
bool stop_asked_within(milliseconds timeout) {
  const sigset_t signals = stop_signals();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(timeout);
  const timespec wait{seconds.count(), std::chrono::nanoseconds(timeout - seconds).count()};
  return sigtimedwait(&signals, nullptr, &wait) > 0;
}

bool stop_asked_now() {
  return stop_asked_within(milliseconds{0});
}

// A free port of the loopback: `wish` if it is free. 0 asks the kernel.
std::uint16_t free_port(std::uint16_t wish) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return 0;
  const int reuse = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, sizeof reuse);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(wish);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  const bool bound = ::bind(fd, generic, size) == 0 && ::getsockname(fd, generic, &size) == 0;
  ::close(fd);
  if (bound) return ntohs(address.sin_port);
  return wish == 0 ? std::uint16_t{0} : free_port(0);
}

std::string shell_quoted(const std::string& text) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-:=";
  if (!text.empty() && text.find_first_not_of(kPlain) == std::string::npos) return text;
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

std::string own_program() {
  return fs::read_symlink("/proc/self/exe").string();
}

// Where everything is, as the daemon and its users need it.
struct Addresses {
  std::string events;
  std::string postgres;  // directory of its socket
  std::string dsn;
  std::string metrics;
  std::string spool;
};

ChildOptions serve_options(const Addresses& addresses, const config::Settings& settings,
                           const DevOptions& options) {
  ChildOptions serve;
  serve.arguments = {own_program(), "serve"};
  if (options.config_file) {
    serve.arguments.emplace_back("--config");
    serve.arguments.push_back(*options.config_file);
  }
  serve.environment = {{"SLUICE_INGEST_SOCKET", addresses.events},
                       {"SLUICE_POSTGRES_DSN", addresses.dsn},
                       {"SLUICE_POSTGRES_SCHEMA", "sluice"},
                       {"SLUICE_POSTGRES_MODEL", settings.postgres.model},
                       {"SLUICE_METRICS_LISTEN", addresses.metrics},
                       {"SLUICE_SPOOL_DIR", addresses.spool}};
  // Without a file of its own, the machine's daemon's is none of ours.
  if (!options.config_file) serve.environment.emplace_back("SLUICE_CONFIG", "/dev/null");
  return serve;
}

void write_connection(const fs::path& file, const Addresses& addresses, const std::string& model) {
  std::ofstream stream(file);
  stream << "# Where the running `sluice dev` is, for a shell: set -a; . this-file\n"
         << "SLUICE_INGEST_SOCKET=" << shell_quoted(addresses.events) << "\n"
         << "SLUICE_POSTGRES_DSN=" << shell_quoted(addresses.dsn) << "\n"
         << "SLUICE_POSTGRES_MODEL=" << model << "\n"
         << "SLUICE_METRICS_LISTEN=" << addresses.metrics << "\n"
         << "SLUICE_SPOOL_DIR=" << shell_quoted(addresses.spool) << "\n"
         << "PGHOST=" << shell_quoted(addresses.postgres) << "\n"
         << "PGUSER=postgres\nPGDATABASE=sluice\n";
}

// A first look at what was written.
std::string_view first_query(std::string_view model) {
  if (model == "agent_log")
    return "SELECT occurred_at, type, data, extra FROM events ORDER BY id DESC LIMIT 10";
  if (model == "conversations")
    return "SELECT created_at, role, content_text FROM messages ORDER BY id DESC LIMIT 10";
  if (model == "operations")
    return "SELECT created_at, event_type, event_data FROM user_events ORDER BY id DESC LIMIT 10";
  return "SELECT * FROM events ORDER BY id DESC LIMIT 10";
}

void print_welcome(const DevPlace& place, const Addresses& addresses,
                   const config::Settings& settings) {
  const std::string events = shell_quoted(addresses.events);
  fmt::print(
      "\nsluice is running. Ctrl-C ends it; the data stays in {}\n\n"
      "  write    echo '{{\"type\":\"hello\"}}' | nc -NU {}\n"
      "           {} send --socket {} FILE\n"
      "  see      psql -h {} -U postgres -d sluice -c '{}'\n"
      "  metrics  http://{}/metrics\n\n",
      place.directory.string(), events, shell_quoted(own_program()), events,
      shell_quoted(addresses.postgres), first_query(settings.postgres.model), addresses.metrics);
}

enum class Ready { yes, stopped, failed };

Ready wait_until_ready(ChildProcess& serve, const std::string& socket) {
  for (milliseconds waited{0}; waited < kReadyPatience; waited += kLookInterval) {
    if (serve.exit_code()) return Ready::failed;
    const int fd = connect_unix(socket);
    if (fd >= 0) {
      ::close(fd);
      return Ready::yes;
    }
    if (stop_asked_within(kLookInterval)) return Ready::stopped;
  }
  return Ready::failed;
}

// Until a stop is asked for, or one of the two ends by itself.
void watch(ChildProcess& serve, DevCluster& cluster) {
  while (!serve.exit_code() && !cluster.exit_code()) {
    if (stop_asked_within(milliseconds{200})) return;
  }
  if (cluster.exit_code()) fmt::print(stderr, "sluice: Postgres has ended by itself\n");
}

// Lets the daemon drain. A second Ctrl-C is passed on, and cuts the draining short.
int stop_serve(ChildProcess& serve, milliseconds drain_timeout) {
  serve.signal(SIGTERM);
  const milliseconds patience = drain_timeout + kStopPatience;
  for (milliseconds waited{0}; waited < patience; waited += kLookInterval) {
    if (const auto code = serve.exit_code()) return *code;
    if (stop_asked_within(kLookInterval)) serve.signal(SIGTERM);
  }
  fmt::print(stderr, "sluice: the daemon does not end; it is killed\n");
  serve.signal(SIGKILL);
  return serve.wait(patience).value_or(kExitBug);
}

int run_daemon(DevCluster& cluster, const DevPlace& place, const config::Settings& settings,
               const DevOptions& options) {
  const Addresses addresses{place.events_socket().string(), place.sockets.string(), cluster.dsn(),
                            fmt::format("127.0.0.1:{}", free_port(kMetricsPort)),
                            (place.directory / "spool").string()};
  ChildProcess serve(serve_options(addresses, settings, options));
  const Ready ready = wait_until_ready(serve, addresses.events);
  if (ready == Ready::failed) fmt::print(stderr, "sluice: the daemon did not start\n");
  if (ready == Ready::yes) {
    write_connection(place.connection, addresses, settings.postgres.model);
    print_welcome(place, addresses, settings);
    watch(serve, cluster);
    fs::remove(place.connection);
  }
  const bool postgres_ended = cluster.exit_code().has_value();
  const int code = stop_serve(serve, settings.postgres.drain_timeout);
  return code == kExitOk && postgres_ended ? kExitUnavailable : code;
}

}  // namespace

int run_dev(const config::Settings& settings, const DevOptions& options) {
  // Taken up by sigtimedwait; children have them unblocked.
  const sigset_t signals = stop_signals();
  sigprocmask(SIG_BLOCK, &signals, nullptr);
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // lines come in step with those of the children
  try {
    const DevPlace place = make_dev_place(options.directory);
    const FileLock lock((place.directory / "LOCK").string(), place.directory.string());
    config::ModelOptions model;
    model.model = settings.postgres.model;
    DevCluster cluster(place, model, stop_asked_now);
    const int code = run_daemon(cluster, place, settings, options);
    cluster.stop();
    fmt::print("stopped; the data is in {}\n", place.directory.string());
    return code;
  } catch (const DevError& error) {
    fmt::print(stderr, "sluice: {}\n", error.what());
    return kExitUnavailable;
  } catch (const PostgresError& error) {
    fmt::print(stderr,
               "sluice: the tables of the model {} were not made: {}\n"
               "sluice: if {} has another model's tables, take another --dir for this one\n",
               settings.postgres.model, error.what(), options.directory);
    return kExitConfig;
  }
}

}  // namespace sluice::daemon
