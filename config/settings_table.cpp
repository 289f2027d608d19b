// Every setting: name, kind, default, place, meaning, range.
#include "config/settings_table.hpp"

#include <algorithm>
#include <array>
#include <cctype>

#include "config/units.hpp"

namespace sluice::config {

namespace {

constexpr std::uint64_t kKiB = 1ULL << 10;
constexpr std::uint64_t kMiB = 1ULL << 20;
constexpr std::uint64_t kGiB = 1ULL << 30;
constexpr std::uint64_t kTiB = 1ULL << 40;
constexpr std::uint64_t kSecond = 1'000;
constexpr std::uint64_t kHour = 3'600 * kSecond;
constexpr std::uint64_t kDay = 24 * kHour;

// An event's text is addressed by 24 bits; 1 KiB of that is left for text of the daemon's own.
constexpr std::uint64_t kLineBytesCap = 16 * kMiB - kKiB;
// The dedupe window counts milliseconds in 32 bits.
constexpr std::uint64_t kDedupeWindowCap = 24 * kDay;

const std::array kTable = {
    Setting{
        "ingest", "socket", Kind::text, "/run/sluice/events.sock",
        [](Settings& s) -> std::string& { return s.ingest.socket; },
        "Path of the Unix socket that producers write to; \"\" for none. A socket handed over by "
        "systemd takes its place."},
    Setting{"ingest", "socket_mode", Kind::mode, "0660",
            [](Settings& s) -> std::uint32_t& { return s.ingest.socket_mode; },
            "File mode of the socket: who may write to it may send events.", 0, 0777},
    Setting{"ingest", "socket_group", Kind::text, "",
            [](Settings& s) -> std::string& { return s.ingest.socket_group; },
            "Group that the socket is given to; \"\" leaves it with the daemon's own."},
    Setting{"ingest", "tcp", Kind::text, "",
            [](Settings& s) -> std::string& { return s.ingest.tcp; },
            "Loopback address to listen on as well, such as \"127.0.0.1:9465\"; \"\" for none. "
            "Producers have no uid there."},
    Setting{"ingest", "line_bytes_max", Kind::size, "1MiB",
            [](Settings& s) -> std::uint64_t& { return s.ingest.line_bytes_max; },
            "Longest line; a longer one is refused, and its connection lives on.", kKiB,
            kLineBytesCap},
    Setting{
        "ingest", "queue_bytes_max", Kind::size, "16MiB",
        [](Settings& s) -> std::uint64_t& { return s.ingest.queue_bytes_max; },
        "Memory for events on their way to the spool, or to Postgres where there is no spool on "
        "disk. When it is used up the sockets are not read, and producers wait.",
        kMiB, 64 * kGiB},
    Setting{"ingest", "connections_max", Kind::whole, "1024",
            [](Settings& s) -> std::uint64_t& { return s.ingest.connections_max; },
            "Connections served at once; further ones wait to be accepted.", 1, 1'000'000},
    Setting{
        "ingest", "connections_per_uid_max", Kind::whole, "0",
        [](Settings& s) -> std::uint64_t& { return s.ingest.connections_per_uid_max; },
        "Those of one user (by uid; all of TCP are one): further ones are closed at once, so that "
        "the places of connections_max are left for others. 0: as many as there are.",
        0, 1'000'000},
    Setting{
        "ingest", "allow_uids", Kind::whole_list, "",
        [](Settings& s) -> std::vector<std::uint64_t>& { return s.ingest.allow_uids; },
        "Users (by uid) that may write to the Unix socket; [] lets in everyone who can open it.", 0,
        0xfffffffe},
    Setting{"ingest",
            "nul",
            Kind::choice,
            "replace",
            [](Settings& s) -> std::string& { return s.ingest.nul; },
            "What becomes of the escape \\u0000, which Postgres cannot store: U+FFFD, nothing, or "
            "the line is refused.",
            0,
            0,
            {"replace", "strip", "reject"}},
    Setting{"ingest",
            "text",
            Kind::choice,
            "replace",
            [](Settings& s) -> std::string& { return s.ingest.text; },
            "What becomes of invalid UTF-8 and lone surrogates: U+FFFD, or the line is refused.",
            0,
            0,
            {"replace", "reject"}},
    Setting{
        "ingest",
        "misfit",
        Kind::choice,
        "keep",
        [](Settings& s) -> std::string& { return s.ingest.misfit; },
        "What becomes of a known field whose value does not fit: kept in extra under its name, or "
        "the line is refused.",
        0,
        0,
        {"keep", "reject"}},
    Setting{
        "ingest",
        "default_zone",
        Kind::choice,
        "none",
        [](Settings& s) -> std::string& { return s.ingest.default_zone; },
        "The zone of an event's time that says none. With none such a time does not fit: Python's "
        "datetime.utcnow() writes UTC so, and datetime.now() the local time.",
        0,
        0,
        {"none", "UTC"}},
    Setting{
        "ingest",
        "dup_key",
        Kind::choice,
        "last",
        [](Settings& s) -> std::string& { return s.ingest.dup_key; },
        "What becomes of a field that comes twice: the last one counts, or the line is refused.",
        0,
        0,
        {"last", "reject"}},
    Setting{"ingest", "default_type", Kind::text, "log",
            [](Settings& s) -> std::string& { return s.ingest.default_type; },
            "Type of an event that has none; \"\" refuses such events."},
    Setting{"ingest", "time_fields", Kind::text_list, "time,timestamp,@timestamp,ts",
            [](Settings& s) -> std::vector<std::string>& { return s.ingest.time_fields; },
            "Fields that may hold the event's time; the first one that is there counts."},
    Setting{"ingest",
            "on_full",
            Kind::choice,
            "wait",
            [](Settings& s) -> std::string& { return s.ingest.on_full; },
            "What becomes of a line when there is no room for it: its producer is not read until "
            "there is, or the line is refused with the code \"full\", or it is counted and "
            "forgotten.",
            0,
            0,
            {"wait", "reject", "drop"}},

    Setting{"ingest", "rejects_bytes_max", Kind::size, "64MiB",
            [](Settings& s) -> std::uint64_t& { return s.ingest.rejects_bytes_max; },
            "Most bytes of refused lines that are kept among the dead letters, of producers that "
            "did not ask for acks; further ones are only counted. 0 keeps none.",
            0, kTiB},

    Setting{"ingest", "depth_max", Kind::whole, "64",
            [](Settings& s) -> std::uint64_t& { return s.ingest.depth_max; },
            "Deepest nesting of a line; a deeper one is refused (too_deep).", 1, 256},
    Setting{"ingest", "keys_max", Kind::whole, "1000",
            [](Settings& s) -> std::uint64_t& { return s.ingest.keys_max; },
            "Most keys of one object in a line (else limits).", 1, 4000},
    Setting{"ingest", "key_bytes_max", Kind::size, "1KiB",
            [](Settings& s) -> std::uint64_t& { return s.ingest.key_bytes_max; },
            "Longest key in a line (else limits).", 1, 64 * kKiB},
    Setting{"ingest", "exponent_max", Kind::whole, "308",
            [](Settings& s) -> std::uint64_t& { return s.ingest.exponent_max; },
            "Largest exponent of a number in a line (else number_range).", 0, 308},
    Setting{"ingest", "first_year", Kind::whole, "1970",
            [](Settings& s) -> std::uint64_t& { return s.ingest.first_year; },
            "Times of events before this year are misfits.", 1970, 9999},
    Setting{"ingest", "last_year", Kind::whole, "2200",
            [](Settings& s) -> std::uint64_t& { return s.ingest.last_year; },
            "Times of events after this year are misfits.", 1970, 9999},

    Setting{"spool", "dir", Kind::text, "/var/lib/sluice",
            [](Settings& s) -> std::string& { return s.spool.dir; },
            "Directory of the spool, on a local disk that outlives what the events must outlive."},
    Setting{
        "spool",
        "durability",
        Kind::choice,
        "power",
        [](Settings& s) -> std::string& { return s.spool.durability; },
        "What an acked event survives before Postgres has it. \"power\": the loss of power, each "
        "block is synced. \"process\": the end of the daemon. \"memory\": there is no spool on "
        "disk, and no ack before the commit.",
        0,
        0,
        {"power", "process", "memory"}},
    Setting{"spool", "segment_bytes", Kind::size, "64MiB",
            [](Settings& s) -> std::uint64_t& { return s.spool.segment_bytes; },
            "Events that share one file and one row of the watermark table, in bytes.", 64 * kKiB,
            4 * kGiB},
    Setting{"spool", "bytes_max", Kind::size, "8GiB",
            [](Settings& s) -> std::uint64_t& { return s.spool.bytes_max; },
            "Most bytes of all files in spool.dir. When they are used up and nothing of them is "
            "committed, the sockets are not read.",
            kMiB, 1024 * kTiB},
    Setting{"spool", "sync_delay", Kind::duration, "2ms",
            [](Settings& s) -> std::chrono::milliseconds& { return s.spool.sync_delay; },
            "How long events gather before they are written and synced together. A producer that "
            "waits for acks never waits for this.",
            0, kSecond},
    Setting{"spool", "retain_time", Kind::duration, "15min",
            [](Settings& s) -> std::chrono::milliseconds& { return s.spool.retain_time; },
            "How long a file is kept after all of it is committed, to make good what a failover of "
            "Postgres lost.",
            0, 30 * kDay},
    Setting{"spool", "retain_bytes", Kind::size, "4GiB",
            [](Settings& s) -> std::uint64_t& { return s.spool.retain_bytes; },
            "Most bytes that are kept so. They give way when the spool is full.", 0, 1024 * kTiB},
    Setting{"spool", "producers_max", Kind::whole, "10000",
            [](Settings& s) -> std::uint64_t& { return s.spool.producers_max; },
            "Named producers whose last line is remembered; the one that was silent longest is "
            "forgotten for one more.",
            1, 1'000'000},
    Setting{
        "spool", "aside_bytes_max", Kind::size, "256MiB",
        [](Settings& s) -> std::uint64_t& { return s.spool.aside_bytes_max; },
        "Most bytes of set-aside events in spool.dir, beside spool.bytes_max. When they are used "
        "up, a segment with one more such event waits.",
        64 * kKiB, kTiB},

    Setting{"dedupe", "window", Kind::duration, "10min",
            [](Settings& s) -> std::chrono::milliseconds& { return s.dedupe.window; },
            "How long a dedupe key is remembered.", kSecond, kDedupeWindowCap},
    Setting{"dedupe", "keys_max", Kind::whole, "1000000",
            [](Settings& s) -> std::uint64_t& { return s.dedupe.keys_max; },
            "Keys remembered at once, at up to 32 bytes each; 0 turns dedupe off.", 0,
            1'000'000'000},
    Setting{"dedupe",
            "scope",
            Kind::choice,
            "uid",
            [](Settings& s) -> std::string& { return s.dedupe.scope; },
            "Whether each user has keys of its own, or all producers share them.",
            0,
            0,
            {"uid", "global"}},

    Setting{"postgres", "dsn", Kind::text, "",
            [](Settings& s) -> std::string& { return s.postgres.dsn; },
            "Where Postgres is, in libpq's words: \"host=db1,db2 dbname=agents user=sluice\", or a "
            "URI. No password here: use passfile=, service=, ~/.pgpass or PGPASSFILE."},
    Setting{
        "postgres", "lanes", Kind::whole, "2",
        [](Settings& s) -> std::uint64_t& { return s.postgres.lanes; },
        "Connections that commit side by side. With 1, events are committed in the order in which "
        "they came.",
        1, 64},
    Setting{"postgres", "batch_rows_max", Kind::whole, "10000",
            [](Settings& s) -> std::uint64_t& { return s.postgres.batch_rows_max; },
            "Most rows in one transaction.", 1, 10'000'000},
    Setting{"postgres", "batch_bytes_max", Kind::size, "4MiB",
            [](Settings& s) -> std::uint64_t& { return s.postgres.batch_bytes_max; },
            "Most bytes in one transaction.", 64 * kKiB, kGiB},
    Setting{"postgres", "batch_delay", Kind::duration, "20ms",
            [](Settings& s) -> std::chrono::milliseconds& { return s.postgres.batch_delay; },
            "How long a batch that is not full waits for more rows.", 0, 60 * kSecond},
    Setting{"postgres", "parent_wait", Kind::duration, "30s",
            [](Settings& s) -> std::chrono::milliseconds& { return s.postgres.parent_wait; },
            "How long a row whose foreign key finds no parent is set aside as waiting and tried "
            "again; then it is dead. 0: it is dead at once.",
            0, kHour},
    Setting{"postgres", "schema", Kind::text, "sluice",
            [](Settings& s) -> std::string& { return s.postgres.schema; },
            "Schema of sluice's own tables (watermark)."},
    Setting{"postgres",
            "model",
            Kind::choice,
            "agent_log",
            [](Settings& s) -> std::string& { return s.postgres.model; },
            "The model whose routes are used where there is no [[route]], and which `sluice schema "
            "apply` makes.",
            0,
            0,
            {"agent_log", "conversations", "operations", "spirits", "unified"}},
    Setting{"postgres", "drain_timeout", Kind::duration, "10s",
            [](Settings& s) -> std::chrono::milliseconds& { return s.postgres.drain_timeout; },
            "How long SIGTERM waits until Postgres has everything that was taken. What it has not "
            "then stays in the spool, or is lost where there is no spool on disk.",
            0, kHour},

    Setting{"metrics", "listen", Kind::text, "127.0.0.1:9464",
            [](Settings& s) -> std::string& { return s.metrics.listen; },
            "Address of /metrics, /healthz and /readyz; \"\" for none."},

    Setting{"log",
            "level",
            Kind::choice,
            "info",
            [](Settings& s) -> std::string& { return s.log.level; },
            "Least level that is written to stderr.",
            0,
            0,
            {"debug", "info", "warning", "error"}},
    Setting{"log",
            "format",
            Kind::choice,
            "text",
            [](Settings& s) -> std::string& { return s.log.format; },
            "Lines for people (with priorities under journald), or JSON lines.",
            0,
            0,
            {"text", "json"}},
};

constexpr std::array<RouteSetting, 9> kRouteSettings = {
    {{"match", "text", "",
      "The event type, or the beginning of types and a \"*\": \"audit.login\", \"audit.*\", "
      "\"*\"."},
     {"table", "text", "",
      "\"table\" or \"schema.table\", without a schema by the role's search_path. It is split at "
      "the "
      "first dot outside double quotes, so that \"we.ird\".\"t\" works; every part is quoted."},
     {"columns", "list of tables", "",
      "What goes into which column; a column that is not listed gets its DEFAULT."},
     {"mode", "choice", "\"append\"",
      "\"append\": COPY into the table; a batch that meets a taken key is merged. \"merge\": COPY "
      "into a temporary table and INSERT … ON CONFLICT (key) DO NOTHING from there while keys are "
      "taken, also the way into tables with row-level security."},
     {"key", "list of texts", "[]",
      "Columns of the unique index that says whether a row is there already; [] is the primary "
      "key."},
     {"on_conflict", "choice", "\"compare\"",
      "What a row is whose key is taken. \"compare\": a duplicate if the stored row agrees in the "
      "columns from the producer, else set aside as dead. \"skip\": a duplicate. \"dead\": set "
      "aside."},
     {"trigger_may_skip", "true or false", "false",
      "A BEFORE trigger of the table may take rows away."},
     {"dedupe", "list", "[]",
      "The dedupe key of an event that has none: a hash of these fields, each a name or a pointer, "
      "or "
      "{ from = \"content\", limit = 100 } for its first characters."},
     {"dedupe_if", "text", "\"\"", "Only where the event has this field."}}};

constexpr std::array<RouteSetting, 5> kRouteColumnSettings = {
    {{"name", "text", "", "The column's name."},
     {"from", "text", "",
      "Where its value comes from: a top-level field (\"type\"), a JSON pointer into the event "
      "(\"/data/cost\"), \"time\", or the daemon ($…). Nothing there: NULL."},
     {"value", "any value", "", "Instead of from: the same value for every event."},
     {"type", "text", "", "The type that the column has to have; else any that the value fits."},
     {"required", "true or false", "false", "An event without a value is refused."}}};

constexpr std::array<RouteSetting, 9> kRouteSources = {
    {{"$id", "", "", "the event's id, or the one that the daemon gave it"},
     {"$received_at", "", "", "when the daemon received it"},
     {"$uid", "", "", "the producer's user id; none over TCP"},
     {"$instance", "", "", "the daemon's name"},
     {"$segment", "", "", "the uuid of its segment in the spool"},
     {"$index", "", "", "its place in that segment"},
     {"$dedupe_key", "", "", "its dedupe_key, or the one that the route computes"},
     {"$extra", "", "",
      "a JSON object of all that the producer sent and no other column takes whole"},
     {"$line", "", "", "the whole line as it came"}}};

constexpr std::array<RouteSetting, 6> kRedactSettings = {
    {{"fields", "list of names and pointers", "",
      "What is not to be kept: a name means the members of that name at any depth, in upper or "
      "lower case; a JSON pointer (\"/data/headers/token\") the value exactly there, with \"*\" "
      "for "
      "any one member or element. A value that is an object or a list goes whole."},
     {"action", "\"replace\" or \"hash\"", "\"replace\"",
      "By a fixed text, or by a keyed hash of the value, so that equal values stay comparable."},
     {"with", "text", "\"[redacted]\"", "The text that replaces a value."},
     {"salt_file", "path", "",
      "For \"hash\": a file with the key of the hashes, at least 16 bytes. Who knows it can find "
      "out "
      "values by trying them."},
     {"match", "text", "", "The event types it applies to, as a route's; without it all."},
     {"name", "text", "",
      "The rule's name in sluice_redacted_total; without it its number, from 1."}}};

constexpr std::array<std::string_view, 7> kListenerKeys = {
    "socket", "tcp", "socket_mode", "socket_group", "on_full", "default_type", "allow_uids"};

struct Section {
  std::string_view name;
  std::string_view sentence;
};

constexpr std::array<Section, 6> kSections = {
    {{"ingest", "The socket, and what becomes of the lines that come in."},
     {"spool", "Events between the socket and Postgres."},
     {"dedupe", "Events that come twice."},
     {"postgres", "Where the events go, and in what portions."},
     {"metrics", "Prometheus and health checks."},
     {"log", "The daemon's own log, on stderr."}}};

}  // namespace

std::string Setting::name() const {
  return std::string(section) + "." + std::string(key);
}

std::string Setting::environment_name() const {
  std::string name = "SLUICE_" + std::string(section) + "_" + std::string(key);
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return name;
}

std::span<const Setting> settings_table() {
  return kTable;
}

const Setting* find_setting(std::string_view section, std::string_view key) {
  const auto found = std::find_if(kTable.begin(), kTable.end(), [&](const Setting& setting) {
    return setting.section == section && setting.key == key;
  });
  return found == kTable.end() ? nullptr : &*found;
}

std::span<const std::string_view> listener_keys() {
  return kListenerKeys;
}

std::span<const RouteSetting> route_settings() {
  return kRouteSettings;
}

std::span<const RouteSetting> route_column_settings() {
  return kRouteColumnSettings;
}

std::span<const RouteSetting> route_sources() {
  return kRouteSources;
}

std::span<const RouteSetting> redact_settings() {
  return kRedactSettings;
}

std::string_view section_sentence(std::string_view section) {
  for (const Section& candidate : kSections) {
    if (candidate.name == section) return candidate.sentence;
  }
  return {};
}

std::string range_text(const Setting& setting) {
  const auto between = [](const std::string& min, const std::string& max) {
    return min + " to " + max;
  };
  switch (setting.kind) {
    case Kind::whole:
    case Kind::whole_list:
      return between(std::to_string(setting.min), std::to_string(setting.max));
    case Kind::size:
      return between(size_text(setting.min), size_text(setting.max));
    case Kind::duration:
      return between(setting.min == 0 ? "0" : duration_text(std::chrono::milliseconds{setting.min}),
                     duration_text(std::chrono::milliseconds{setting.max}));
    case Kind::mode:
      return between(mode_text(static_cast<std::uint32_t>(setting.min)),
                     mode_text(static_cast<std::uint32_t>(setting.max)));
    case Kind::text:
    case Kind::choice:
    case Kind::text_list:
      return {};
  }
  return {};
}

}  // namespace sluice::config
