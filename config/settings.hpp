// Every setting of sluice with its value: what the loader makes of the defaults, the configuration
// file and the environment, and what daemon/ wires the stages with.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace sluice::config {

// Values only; settings_table.hpp says what each key means, its unit, range and default.
// Sizes are in bytes.
struct Settings {
  struct Ingest {
    std::string socket;
    std::uint32_t socket_mode = 0;
    std::string socket_group;
    std::string tcp;
    std::uint64_t line_bytes_max = 0;
    std::uint64_t queue_bytes_max = 0;
    std::uint64_t connections_max = 0;
    std::uint64_t connections_per_uid_max = 0;
    std::vector<std::uint64_t> allow_uids;
    std::string nul;
    std::string text;
    std::string misfit;
    std::string default_zone;
    std::string dup_key;
    std::string default_type;
    std::vector<std::string> time_fields;
    std::string on_full;
    std::uint64_t rejects_bytes_max = 0;
    std::uint64_t depth_max = 0;
    std::uint64_t keys_max = 0;
    std::uint64_t key_bytes_max = 0;
    std::uint64_t exponent_max = 0;
    std::uint64_t first_year = 0;
    std::uint64_t last_year = 0;
  } ingest;

  // Beside those of [ingest]. What the file does not say of one is as [ingest] has it.
  struct Listener {
    std::string socket;  // or
    std::string tcp;     // one of the two is set
    std::uint32_t socket_mode = 0;
    std::string socket_group;
    std::string on_full;
    std::string default_type;
    std::vector<std::uint64_t> allow_uids;
  };
  std::vector<Listener> listeners;

  // Which events go where. A value is either taken from the event or the daemon, or always the
  // same.
  struct RouteColumn {
    std::string name;
    std::string from;   // as the file has it: "$id", "time", "member", "/a/pointer"; or
    std::string value;  // JSON; one of the two is set
    std::string type;   // as the file has it; empty: the catalog's
    bool required = false;
    std::string place;  // "file:line"
  };
  // A part of a computed dedupe key.
  struct RouteKeyPart {
    std::string from;
    std::uint64_t characters_max = 0;  // 0: all of them
  };
  struct Route {
    std::string match;
    std::string table;
    std::string mode = "append";
    std::vector<std::string> key;
    std::string on_conflict = "compare";
    bool trigger_may_skip = false;
    std::vector<RouteKeyPart> dedupe;
    std::string dedupe_if;
    std::vector<RouteColumn> columns;
    std::string place;  // "file:line"
  };
  // In the file's order: the first that matches counts. None: those of postgres.model.
  std::vector<Route> routes;

  // Values of events that are not to be kept. Of several rules for a value the first counts.
  struct Redaction {
    std::string name;                 // in metrics
    std::vector<std::string> fields;  // names, and pointers in which `*` stands for any one step
    std::string match;                // empty: all types
    std::string action = "replace";
    std::string with = "[redacted]";
    std::string salt_file;
    std::string place;  // "file:line"
  };
  std::vector<Redaction> redactions;

  struct Spool {
    std::string dir;
    std::string durability;
    std::uint64_t bytes_max = 0;
    std::uint64_t segment_bytes = 0;
    std::chrono::milliseconds sync_delay{};
    std::chrono::milliseconds retain_time{};
    std::uint64_t retain_bytes = 0;
    std::uint64_t producers_max = 0;
    std::uint64_t aside_bytes_max = 0;

    [[nodiscard]] bool on_disk() const { return durability != "memory"; }
  } spool;

  struct Dedupe {
    std::chrono::milliseconds window{};
    std::uint64_t keys_max = 0;
    std::string scope;
  } dedupe;

  struct Postgres {
    std::string dsn;
    std::uint64_t lanes = 0;
    std::uint64_t batch_rows_max = 0;
    std::uint64_t batch_bytes_max = 0;
    std::chrono::milliseconds batch_delay{};
    std::chrono::milliseconds parent_wait{};
    std::string schema;
    std::string model;
    std::chrono::milliseconds drain_timeout{};
  } postgres;

  struct Metrics {
    std::string listen;
  } metrics;

  struct Log {
    std::string level;
    std::string format;
  } log;
};

}  // namespace sluice::config
