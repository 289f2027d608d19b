// One finding a line, good ones too, each bad one with its next step.
#include "daemon/command_check.hpp"

#include <fmt/core.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <optional>
#include <system_error>
#include <vector>

#include "config/memory_budget.hpp"
#include "config/model.hpp"
#include "config/units.hpp"
#include "daemon/blocking_postgres.hpp"
#include "daemon/disk_probe.hpp"
#include "daemon/event_sockets.hpp"
#include "daemon/exit_code.hpp"
#include "daemon/file_lock.hpp"
#include "daemon/http_server.hpp"
#include "daemon/left_segments.hpp"
#include "daemon/redaction.hpp"
#include "daemon/route_check.hpp"
#include "daemon/route_list.hpp"
#include "daemon/spool_directory.hpp"
#include "daemon/unix_address.hpp"
#include "ingest/socket_address.hpp"
#include "sink/postgres_database.hpp"
#include "sink/route.hpp"

namespace sluice::daemon {

namespace {

constexpr std::chrono::seconds kQueryTimeout{15};

// Collects the findings' exit code while they are printed.
class Findings final {
 public:
  void good(const std::string& what) { fmt::print("  ok    {}\n", what); }

  // Worth knowing, and no reason to fail.
  void note(const std::string& what, const std::string& next_step) {
    fmt::print("  note  {}\n        -> {}\n", what, next_step);
  }

  void bad(const std::string& what, const std::string& next_step, ExitCode code) {
    fmt::print("  WRONG {}\n        -> {}\n", what, next_step);
    // What a person must mend outweighs what may come back by itself.
    if (exit_code_ != kExitConfig) exit_code_ = code;
  }

  [[nodiscard]] int exit_code() const { return exit_code_; }

 private:
  int exit_code_ = kExitOk;
};

void print_budget(const config::Settings& settings) {
  fmt::print("memory, at most:\n");
  for (const config::MemoryShare& share : config::memory_budget(settings))
    fmt::print("  {:>8.1f} MiB  {}\n", static_cast<double>(share.bytes) / (1 << 20), share.what);
  fmt::print("  {:>8.1f} MiB  in all\n",
             static_cast<double>(config::memory_budget_bytes(settings)) / (1 << 20));
}

// Where a daemon runs with these settings, its places are taken, and that is as it should be.
bool daemon_is_running(const config::Settings& settings) {
  if (settings.spool.on_disk() && is_locked(SpoolDirectory::lock_path(settings.spool.dir)))
    return true;
  return !settings.ingest.socket.empty() && is_locked(settings.ingest.socket + ".lock");
}

void check_unix_socket(const std::string& path, const std::string& group, Findings& findings) {
  if (path.size() > kUnixPathBytesMax)
    return findings.bad(fmt::format("{} has {} bytes", path, path.size()),
                        fmt::format("give the socket a path of at most {}", kUnixPathBytesMax),
                        kExitConfig);
  const std::filesystem::path parent = std::filesystem::absolute(path).parent_path();
  std::error_code error;
  if (!std::filesystem::is_directory(parent, error))
    return findings.bad(parent.string() + " is not a directory",
                        "make it, or set the socket to another place", kExitConfig);
  if (::access(parent.c_str(), W_OK | X_OK) != 0)
    return findings.bad("this user cannot make a socket in " + parent.string(),
                        "run as the daemon's user, or set the socket to another place",
                        kExitConfig);
  const auto status = std::filesystem::symlink_status(path, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_socket(status))
    return findings.bad(path + " exists and is no socket", "remove it, or choose another path",
                        kExitConfig);
  if (!group.empty() && !ingest::find_group(group))
    return findings.bad("there is no group '" + group + "'",
                        "create it, or change the socket's group", kExitConfig);
  findings.good("a socket can be made at " + path);
}

void check_tcp_socket(const std::string& address, bool running, Findings& findings) {
  try {
    findings.good("events can be taken on " + ingest::listen_tcp(address).name());
  } catch (const ingest::SocketError& error) {
    const bool in_use = error.kind() == ingest::SocketError::Kind::in_use;
    if (in_use && running) return findings.good("the running daemon listens on " + address);
    const bool wrong = error.kind() == ingest::SocketError::Kind::configuration;
    findings.bad(error.what(), "an address that is free, such as 127.0.0.1:9465",
                 wrong ? kExitConfig : kExitUnavailable);
  }
}

void check_sockets(const config::Settings& settings, bool running, Findings& findings) {
  const auto listeners = listeners_of(settings);
  for (const config::Settings::Listener& listener : listeners) {
    if (!listener.socket.empty())
      check_unix_socket(listener.socket, listener.socket_group, findings);
    if (!listener.tcp.empty()) check_tcp_socket(listener.tcp, running, findings);
  }
  if (listeners.empty()) findings.good("none is asked for: systemd hands one over");
}

void check_metrics(const config::Settings& settings, bool running, Findings& findings) {
  const std::string& listen = settings.metrics.listen;
  if (listen.empty()) return findings.good("none are asked for");
  try {
    boost::asio::io_context io;
    const HttpServer server(io, listen, {});
    findings.good("they can be served on " + server.address());
  } catch (const HttpAddressError& error) {
    findings.bad(error.what(), "mend metrics.listen", kExitConfig);
  } catch (const std::runtime_error& error) {
    if (running) return findings.good("the running daemon serves them on " + listen);
    findings.bad(error.what(), "an address of this machine that is free", kExitUnavailable);
  }
}

double milliseconds_of(std::chrono::microseconds time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

// Of the spool's own files, as far as this user may look.
std::uint64_t bytes_in(const std::filesystem::path& directory) {
  std::uint64_t bytes = 0;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator at(directory, error), end; !error && at != end;
       at.increment(error)) {
    std::error_code not_now;
    const auto size = at->is_regular_file(not_now) ? at->file_size(not_now) : 0;
    if (!not_now) bytes += size;
  }
  return bytes;
}

void check_disk(const config::Settings& settings, const std::filesystem::path& directory,
                Findings& findings) {
  const std::uint64_t used = bytes_in(settings.spool.dir);
  const std::uint64_t most = settings.spool.bytes_max;
  const std::uint64_t free = free_bytes(directory);
  if (used < most && free < most - used)
    findings.note(fmt::format("{} has {:.1f} GiB left, and the spool may want {:.1f} GiB more",
                              directory.string(), static_cast<double>(free) / (1ULL << 30),
                              static_cast<double>(most - used) / (1ULL << 30)),
                  "make room, or lower spool.bytes_max: a full disk makes producers wait");
  const SyncTimes syncs = measure_syncs(directory);
  findings.good(fmt::format("it syncs 4 KiB in {:.2f} ms (median), {:.2f} ms (p99)",
                            milliseconds_of(syncs.median), milliseconds_of(syncs.p99)));
  if (settings.spool.durability == "power")
    findings.good(
        fmt::format("so one producer that waits for each ack gets about {:.0f} acks a second",
                    1000.0 / std::max(milliseconds_of(syncs.median), 0.001)));
  if (const auto caveat = storage_caveat(directory); !caveat.empty())
    findings.note(fmt::format("{}: {}", directory.string(), caveat),
                  "set spool.dir to a directory on a local disk");
}

std::string durability_sentence(const config::Settings& settings) {
  const std::string& durability = settings.spool.durability;
  if (durability == "power") return "an acked event survives the loss of power";
  if (durability == "process") return "an acked event survives the daemon, not the loss of power";
  return "events that Postgres does not have yet are lost with the daemon";
}

// Those of the segments whose events are not all committed, as far as the database answers.
std::vector<LeftSegment> uncommitted(std::vector<LeftSegment> left,
                                     const config::Settings& settings) {
  if (left.empty() || !sink::dsn_problem(settings.postgres.dsn).empty()) return left;
  try {
    BlockingPostgres postgres(settings.postgres.dsn);
    const std::string table = config::quoted_identifier(settings.postgres.schema) + ".watermark";
    std::erase_if(left, [&](const LeftSegment& segment) {
      return postgres.value(
                 fmt::format("SELECT count(*) FROM {} WHERE segment_id = '{}' AND upto >= {}",
                             table, segment.id.text(), segment.end_index)) == "1";
    });
  } catch (const PostgresError&) {
    // What is wrong with it is told where it is looked at.
  }
  return left;
}

// Where durability was changed to "memory", nobody delivers what waits in the directory.
void check_left_segments(const config::Settings& settings, Findings& findings) {
  try {
    const auto left = uncommitted(left_segments(settings.spool.dir), settings);
    if (left.empty()) return;
    findings.bad(
        fmt::format("{} has {} segments of an earlier run with events that Postgres does "
                    "not have, or cannot be asked for",
                    settings.spool.dir, left.size()),
        "start once with spool.durability \"process\" or \"power\" until they are delivered",
        kExitConfig);
  } catch (const std::system_error& error) {
    findings.note(fmt::format("cannot see whether {} has events of an earlier run: {}",
                              settings.spool.dir, error.what()),
                  "run as the daemon's user");
  }
}

void check_spool(const config::Settings& settings, bool running, Findings& findings) {
  findings.good(fmt::format("durability \"{}\": {}", settings.spool.durability,
                            durability_sentence(settings)));
  if (!settings.spool.on_disk()) return check_left_segments(settings, findings);
  std::filesystem::path directory = std::filesystem::absolute(settings.spool.dir);
  std::error_code error;
  const auto status = std::filesystem::status(directory, error);
  if (std::filesystem::exists(status) && !std::filesystem::is_directory(status))
    return findings.bad(directory.string() + " is not a directory",
                        "remove it, or set spool.dir to another place", kExitConfig);
  const bool there = std::filesystem::exists(status);
  if (!there) directory = directory.parent_path();
  if (::access(directory.c_str(), R_OK | W_OK | X_OK) != 0)
    return findings.bad(fmt::format("this user cannot write in {}", directory.string()),
                        "run as the daemon's user, make the directory and give it to that user, or "
                        "set spool.dir to another place",
                        kExitConfig);
  findings.good(settings.spool.dir + (there ? " can be written" : " can be made") +
                (running ? "; a daemon is running on it" : ""));
  try {
    check_disk(settings, directory, findings);
  } catch (const std::system_error& failure) {
    findings.bad(failure.what(), "look at the disk: is it full, or broken?", kExitUnavailable);
  }
}

// The server that answered, or none.
std::unique_ptr<BlockingPostgres> connect(const config::Settings& settings, Findings& findings) {
  if (const std::string problem = sink::dsn_problem(settings.postgres.dsn); !problem.empty()) {
    findings.bad("postgres.dsn is no connection string: " + problem,
                 "write it as \"host=db1 dbname=agents user=sluice\", or as a URI", kExitConfig);
    return nullptr;
  }
  try {
    return std::make_unique<BlockingPostgres>(settings.postgres.dsn);
  } catch (const PostgresError& error) {
    const std::string text = error.what();
    const bool replica = text.find("read-only") != std::string::npos ||
                         text.find("hot standby") != std::string::npos;
    const bool reachable = replica || error.sqlstate().starts_with("28") ||
                           error.sqlstate().starts_with("3D") || error.sqlstate().starts_with("42");
    std::string next = "start Postgres, or set postgres.dsn to where it is";
    if (replica) next = "this is a replica: name the primary in postgres.dsn, or all of host=a,b";
    if (error.sqlstate().starts_with("28"))
      next = "mend user and password: passfile= in postgres.dsn, ~/.pgpass, or pg_hba.conf";
    if (error.sqlstate().starts_with("3D"))
      next = "CREATE DATABASE, or name another in postgres.dsn";
    findings.bad("no connection: " + text, next, reachable ? kExitConfig : kExitUnavailable);
    return nullptr;
  }
}

void check_server(BlockingPostgres& postgres, Findings& findings) {
  const int version = std::stoi(postgres.value("SHOW server_version_num"));
  const std::string name = postgres.value("SHOW server_version");
  const std::string where =
      postgres.value("SELECT format('%s, as %s', current_database(), current_user)");
  if (version < 140000)
    findings.bad("the server is PostgreSQL " + name, "sluice needs 14 or later", kExitConfig);
  else
    findings.good("connected to PostgreSQL " + name + ", database " + where);
  if (postgres.value("SELECT pg_is_in_recovery()") == "t")
    findings.bad("the server is a replica", "name the primary in postgres.dsn", kExitConfig);
  else if (postgres.value("SHOW default_transaction_read_only") == "on")
    findings.bad("the server is read-only", "turn default_transaction_read_only off", kExitConfig);
  else
    findings.good("it is a primary and takes writes");
  if (postgres.value("SHOW fsync") != "on")
    findings.bad("the server has fsync off: it may lose committed events", "turn fsync on",
                 kExitConfig);
}

// A privilege of the current user on the table, or the GRANT that is missing.
bool check_right(BlockingPostgres& postgres, const std::string& table, const char* privilege,
                 Findings& findings) {
  const std::string literal = config::quoted_literal(table);
  if (postgres.value(fmt::format("SELECT has_table_privilege(to_regclass({}), '{}')", literal,
                                 privilege)) == "t")
    return true;
  const std::string user = postgres.value("SELECT quote_ident(current_user)");
  findings.bad(fmt::format("{} may not {} {}", user, privilege, table),
               fmt::format("GRANT {} ON {} TO {};", privilege, table, user), kExitConfig);
  return false;
}

// True if the user may look into the schema at all; otherwise the table cannot be told from a
// missing one.
bool has_schema(BlockingPostgres& postgres, const std::string& schema, Findings& findings) {
  const std::string literal = config::quoted_literal(schema);
  if (postgres.value(
          fmt::format("SELECT count(*) FROM pg_namespace WHERE nspname = {}", literal)) == "0") {
    findings.bad("there is no schema " + schema, "run: sluice schema apply", kExitConfig);
    return false;
  }
  if (postgres.value(fmt::format("SELECT has_schema_privilege({}, 'USAGE')", literal)) == "t")
    return true;
  const std::string user = postgres.value("SELECT quote_ident(current_user)");
  findings.bad(
      fmt::format("{} may not use the schema {}", user, schema),
      fmt::format("GRANT USAGE ON SCHEMA {} TO {};", config::quoted_identifier(schema), user),
      kExitConfig);
  return false;
}

// One of sluice's own; false: it is not there, or the daemon may not work with it.
bool check_own_table(BlockingPostgres& postgres, const std::string& table,
                     std::initializer_list<const char*> privileges, Findings& findings) {
  if (postgres.value("SELECT to_regclass(" + config::quoted_literal(table) + ")").empty()) {
    findings.bad("there is no table " + table, "run: sluice schema apply", kExitConfig);
    return false;
  }
  bool allowed = true;
  for (const char* privilege : privileges)
    allowed = check_right(postgres, table, privilege, findings) && allowed;
  if (allowed) findings.good(table + " is there");
  return allowed;
}

// False: there is no watermark table that the daemon could work with.
bool check_own_tables(BlockingPostgres& postgres, const config::Settings& settings,
                      Findings& findings) {
  const std::string& schema = settings.postgres.schema;
  if (!has_schema(postgres, schema, findings)) return false;
  const std::string prefix = config::quoted_identifier(schema) + ".";
  if (settings.spool.on_disk())
    (void)check_own_table(postgres, prefix + "redelivered", {"SELECT", "INSERT"}, findings);
  return check_own_table(postgres, prefix + "watermark", {"SELECT", "INSERT", "UPDATE"}, findings);
}

// The daemon's own look at the tables, so that both always agree.
sink::Catalog read_catalog(const config::Settings& settings,
                           const std::vector<sink::Route>& routes) {
  std::vector<std::string> tables;
  for (const sink::Route& route : routes) tables.push_back(route.table);
  sink::PostgresDatabase database(
      {.dsn = settings.postgres.dsn, .schema = settings.postgres.schema, .instance = "check"});
  database.start_connect();
  wait_until_done(database, kQueryTimeout, "connecting");
  database.start_describe(tables);
  wait_until_done(database, kQueryTimeout, "the look at the catalog");
  return database.catalog();
}

void check_one_route(const sink::Route& route, const sink::CatalogTable& table,
                     const sink::Catalog& catalog, Findings& findings) {
  bool takes_events = true;
  for (const RouteFinding& finding : check_route(route, table, catalog)) {
    if (finding.kind == RouteFinding::Kind::note) {
      findings.note(finding.what, finding.next_step);
    } else {
      takes_events = false;
      findings.bad(finding.what, finding.next_step, kExitConfig);
    }
  }
  if (takes_events)
    findings.good(
        fmt::format("\"{}\" -> {} takes every column with its type", route.match, route.table));
}

void check_routes(BlockingPostgres& postgres, const config::Settings& settings,
                  Findings& findings) {
  const std::vector<sink::Route> routes = route_list(settings, "check");
  const sink::Catalog catalog = read_catalog(settings, routes);
  const bool missing = std::any_of(catalog.tables.begin(), catalog.tables.end(),
                                   [](const sink::CatalogTable& table) { return !table.exists; });
  if (missing)
    findings.note("tables without a schema are looked for on the search_path (" +
                      postgres.value("SHOW search_path") + ")",
                  "if they are in another schema: ALTER ROLE … SET search_path");
  for (std::size_t i = 0; i < routes.size(); ++i)
    check_one_route(routes[i], catalog.tables.at(i), catalog, findings);
  if (!takes_every_type(settings))
    findings.note("no route takes events of every type: those that none matches are refused",
                  "end with a route for \"*\"");
}

void check_redaction(const config::Settings& settings, Findings& findings) {
  if (settings.redactions.empty()) return;
  fmt::print("redaction:\n");
  try {
    const auto redactor = make_redactor(settings);
    findings.good(fmt::format("rules: {}", redactor->rules()));
  } catch (const SaltError& error) {
    findings.bad(error.what(), "write the file, readable for the daemon's user", kExitConfig);
  }
}

}  // namespace

int run_check(const config::Settings& settings, const std::string& source) {
  Findings findings;
  fmt::print("settings: {}\n", source);
  print_budget(settings);
  const bool running = daemon_is_running(settings);
  fmt::print("sockets:\n");
  check_sockets(settings, running, findings);
  fmt::print("spool:\n");
  check_spool(settings, running, findings);
  check_redaction(settings, findings);
  fmt::print("metrics:\n");
  check_metrics(settings, running, findings);
  fmt::print("postgres:\n");
  try {
    if (const auto postgres = connect(settings, findings)) {
      check_server(*postgres, findings);
      if (check_own_tables(*postgres, settings, findings)) {
        fmt::print("routes:\n");
        check_routes(*postgres, settings, findings);
      }
    }
  } catch (const PostgresError& error) {
    findings.bad(error.what(), "look at the server's log", kExitUnavailable);
  }
  fmt::print("{}\n", findings.exit_code() == kExitOk ? "all is well" : "something is to be done");
  return findings.exit_code();
}

}  // namespace sluice::daemon
