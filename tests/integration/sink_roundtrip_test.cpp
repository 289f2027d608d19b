// PostgresDatabase against a real Postgres, step by step. SLUICE_TEST_DSN names the server, as
// `key=value` pairs and with a superuser; what the tests make there they drop again.
#include <catch2/catch.hpp>

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "sink/copy_encoder.hpp"
#include "sink/postgres_database.hpp"
#include "sink/route_tables.hpp"
#include "sink/sqlstate.hpp"
#include "tests/support/record_builder.hpp"

namespace sluice::sink {
namespace {

using spool::Field;
using spool::Uuid;
using spool::ValueKind;
using test::RecordBuilder;
using test::SingleRecord;

constexpr std::chrono::seconds kStepTimeout{20};

std::string test_dsn() {
  const char* dsn = std::getenv("SLUICE_TEST_DSN");
  if (dsn == nullptr) FAIL("SLUICE_TEST_DSN is not set");
  return dsn;
}

// Drives a step of a database or a session to its end.
template <typename Stepper>
Progress drive(Stepper& stepper) {
  const auto deadline = std::chrono::steady_clock::now() + kStepTimeout;
  while (true) {
    const Progress progress = stepper.advance();
    if (progress != Progress::working) return progress;
    if (std::chrono::steady_clock::now() > deadline) FAIL("a step does not come to its end");
    const IoWait wait = stepper.wait();
    pollfd descriptor{wait.fd, 0, 0};
    if (wait.read) descriptor.events |= POLLIN;
    if (wait.write) descriptor.events |= POLLOUT;
    poll(&descriptor, 1, 1'000);
  }
}

// Repeats until the condition holds; the condition itself talks to the server.
void eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + kStepTimeout;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) FAIL("a condition does not come true");
  }
}

// A second connection, for looking at what the first one did.
class Observer {
 public:
  Observer() : session_(test_dsn()) {
    session_.start_connect();
    if (drive(session_) != Progress::done) FAIL(session_.failure().message);
    // Not to be held up by a test that lets commits wait for a standby.
    run("SET synchronous_commit = local");
  }
  void run(const std::string& sql) {
    session_.start_query(sql);
    if (drive(session_) != Progress::done) FAIL(session_.failure().message + " in " + sql);
  }
  // The last statement's first value.
  std::optional<std::string> value(const std::string& sql) {
    run(sql);
    const auto& rows = session_.statements().back().rows;
    return rows.empty() ? std::nullopt : rows[0][0];
  }

 private:
  PostgresSession session_;
};

// A schema of the test's own, with a watermark table, dropped at the end.
class Place {
 public:
  Place() : schema_("sluice_test_" + std::to_string(getpid())) {
    observer.run("DROP SCHEMA IF EXISTS " + schema_ + " CASCADE; CREATE SCHEMA " + schema_ +
                 "; SET search_path = " + schema_ +
                 "; CREATE TABLE watermark (segment_id uuid PRIMARY KEY, upto bigint NOT NULL,"
                 " rows bigint NOT NULL, instance text NOT NULL,"
                 " created_at timestamptz NOT NULL DEFAULT now(),"
                 " updated_at timestamptz NOT NULL DEFAULT now())");
  }
  ~Place() {
    PostgresSession session(test_dsn());
    session.start_connect();
    (void)drive(session);
    session.start_query("DROP SCHEMA IF EXISTS " + schema_ + " CASCADE");
    (void)drive(session);
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

  void make_agent_log() {
    observer.run(
        "CREATE TABLE events (id uuid PRIMARY KEY, occurred_at timestamptz NOT NULL,"
        " type varchar(200) NOT NULL, source text, session_id text, parent_id uuid, data jsonb,"
        " extra jsonb, received_at timestamptz NOT NULL, producer_uid bigint, dedupe_key text)");
  }
  [[nodiscard]] PostgresOptions options() const {
    return {.dsn = test_dsn(), .schema = schema_, .instance = "it's a \\ \"test\""};
  }
  // A table of ours, as a route names it.
  [[nodiscard]] std::string table(const std::string& name = "events") const {
    return schema_ + '.' + name;
  }
  [[nodiscard]] Route agent_log() const {
    Route route = agent_log_route();
    route.table = table();
    return route;
  }
  [[nodiscard]] const std::string& schema() const { return schema_; }

 private:
  const std::string schema_;

 public:
  Observer observer;
};

void connect(PostgresDatabase& database) {
  database.start_connect();
  const Progress progress = drive(database);
  INFO(database.failure().message);
  REQUIRE(progress == Progress::done);
  REQUIRE(database.connected());
}

void succeed(PostgresDatabase& database) {
  const Progress progress = drive(database);
  INFO(database.failure().sqlstate << ' ' << database.failure().message);
  REQUIRE(progress == Progress::done);
}

std::vector<std::string> names_of(const Route& route) {
  std::vector<std::string> names;
  for (const Column& column : route.columns) names.push_back(column.name);
  return names;
}

CopyEncoder encoder_for(PostgresDatabase& database, const Route& route) {
  database.start_describe(std::span(&route.table, 1));
  succeed(database);
  const auto bound = bind_columns(route, database.catalog().tables.at(0).columns);
  if (const auto* failure = std::get_if<Failure>(&bound)) FAIL(failure->message);
  return {route.columns, std::get<std::vector<BoundColumn>>(bound)};
}

std::uint64_t resolve(PostgresDatabase& database, const Uuid& segment) {
  database.start_resolve(segment, IfMissing::insert);
  succeed(database);
  return database.resolved_upto().value();
}

void send(PostgresDatabase& database, const CopyBuffer& buffer) {
  eventually([&] { return database.ready_for_rows(); });
  database.send_rows(buffer.bytes());
}

// W1, the records, W2. Returns how the COPY ended.
Progress copy(PostgresDatabase& database, const Route& route, const CopyEncoder& encoder,
              const std::vector<RecordBuilder>& records) {
  database.start_copy({route.table, names_of(route)}, {});
  succeed(database);
  CopyBuffer buffer;
  encoder.append_header(buffer);
  for (const RecordBuilder& builder : records) {
    const SingleRecord record(builder);
    REQUIRE_FALSE(encoder.append_row(record.view(), {}, buffer));
  }
  encoder.append_trailer(buffer);
  send(database, buffer);
  database.start_finish_copy();
  return drive(database);
}

RecordBuilder event(std::string_view type = "\"t\"") {
  return RecordBuilder()
      .id(Uuid::random())
      .times(1'767'225'600'123'456, 1'767'225'600'123'457)
      .string(Field::type, type);
}

// What a JSON value becomes in a column of this type, as text.
std::string stored(Place& place, const std::string& type, ValueKind kind, std::string_view raw,
                   unsigned flags = 0) {
  place.observer.run("DROP TABLE IF EXISTS one; CREATE TABLE one (v " + type + ")");
  PostgresDatabase database(place.options());
  connect(database);
  const Route route{.table = place.table("one"), .columns = {{"v", Source::data}}};
  const CopyEncoder encoder = encoder_for(database, route);
  const Uuid segment = Uuid::random();
  REQUIRE(resolve(database, segment) == 0);
  const Progress progress =
      copy(database, route, encoder, {RecordBuilder().field(Field::data, kind, raw).flags(flags)});
  if (progress != Progress::done) return database.failure().sqlstate;
  database.start_commit(segment, 0, 1, 1);
  succeed(database);
  return place.observer.value("SELECT v::text FROM one").value_or("NULL");
}

}  // namespace

TEST_CASE("postgres: an event's columns arrive as they were sent") {
  Place place;
  place.make_agent_log();
  PostgresDatabase database(place.options());
  connect(database);
  const Route route = place.agent_log();
  const CopyEncoder encoder = encoder_for(database, route);
  const Uuid segment = Uuid::random();
  REQUIRE(resolve(database, segment) == 0);

  const Uuid id = Uuid::random();
  const std::string data = R"({"n":[1.50,-0,1e-400,18446744073709551616],"s":"\u00e4\n\\","t":{}})";
  const std::string extra = R"("k":"\ud83d\ude00","o":{"x":null})";
  const auto full = event("\"tool.call\"")
                        .id(id)
                        .string(Field::source, R"("plan\tner \u20ac")")
                        .string(Field::session_id, "\"\"")
                        .string(Field::parent_id, "\"01234567-89AB-cdef-0123-456789abcdef\"")
                        .string(Field::dedupe_key, "\"key\"")
                        .field(Field::data, ValueKind::object, data)
                        .field(Field::extra, ValueKind::members, extra);
  REQUIRE(copy(database, route, encoder, {full, event(), event()}) == Progress::done);
  CHECK(database.rows_copied() == 3);
  CHECK(place.observer.value("SELECT count(*) FROM events") == "0");
  database.start_commit(segment, 0, 3, 3);
  CHECK(database.commit_may_have_left());
  succeed(database);
  CHECK_FALSE(database.commit_may_have_left());

  CHECK(resolve(database, segment) == 3);
  CHECK(place.observer.value("SELECT rows FROM watermark") == "3");
  CHECK(place.observer.value("SELECT instance FROM watermark") == "it's a \\ \"test\"");
  CHECK(place.observer.value("SELECT count(*) FROM events") == "3");
  place.observer.run("SET timezone = 'UTC'");
  const auto column = [&](const std::string& expression) {
    return place.observer.value("SELECT (" + expression + ")::text FROM events WHERE id = '" +
                                id.text() + "'");
  };
  CHECK(column("occurred_at") == "2026-01-01 00:00:00.123456+00");
  CHECK(column("received_at") == "2026-01-01 00:00:00.123457+00");
  CHECK(column("type") == "tool.call");
  CHECK(column("source") == "plan\tner \xE2\x82\xAC");
  CHECK(column("session_id") == "");
  CHECK(column("parent_id") == "01234567-89ab-cdef-0123-456789abcdef");
  CHECK(column("producer_uid") == "1000");
  CHECK(column("dedupe_key") == "key");
  CHECK(column("data = E'" + std::string(R"({"n":[1.50,-0,1e-400,18446744073709551616],)") +
               R"("s":"\\u00e4\\n\\\\","t":{}})" + "'::jsonb") == "true");
  CHECK(column("data->'n'->>0") == "1.50");
  CHECK(column("data->'n'->>3") == "18446744073709551616");
  CHECK(column("extra = '{" + extra + "}'::jsonb") == "true");
  CHECK(place.observer.value("SELECT count(*) FROM events WHERE data IS NULL AND extra IS NULL"
                             " AND source IS NULL AND parent_id IS NULL") == "2");
}

TEST_CASE("postgres: numbers arrive digit for digit") {
  Place place;
  for (const char* number :
       {"0", "1.50", "-1.50", "10000", "100000000.0001", "0.00001", "18446744073709551616",
        "-123456789012345678901234567890.123456789012345678901234567890", "9999.9999", "0.0"}) {
    CHECK(stored(place, "numeric", ValueKind::number, number) == number);
  }
  for (const char* number : {"-0", "1e3", "1.5E+4", "125e-3", "1e-400", "1e308", "-0.00", "0e5",
                             "1.2e-5", "1e131071", "1e-16383", "120e-1"}) {
    const auto as_text = place.observer.value(std::string("SELECT '") + number + "'::numeric");
    CHECK(stored(place, "numeric", ValueKind::number, number) == as_text);
  }
  CHECK(stored(place, "numeric(10,2)", ValueKind::number, "1.005") == "1.01");
  CHECK(stored(place, "smallint", ValueKind::number, "-32768") == "-32768");
  CHECK(stored(place, "integer", ValueKind::number, "2147483647") == "2147483647");
  CHECK(stored(place, "bigint", ValueKind::number, "-9223372036854775808") ==
        "-9223372036854775808");
  CHECK(stored(place, "real", ValueKind::number, "0.1") == "0.1");
  CHECK(stored(place, "double precision", ValueKind::number, "1e-308") == "1e-308");
  CHECK(stored(place, "double precision", ValueKind::number, "-0") == "-0");
  CHECK(stored(place, "double precision", ValueKind::number, "1e-400") == "0");
}

TEST_CASE("postgres: text, booleans, uuids and domains arrive as they were sent") {
  Place place;
  CHECK(stored(place, "boolean", ValueKind::boolean, "true") == "true");
  CHECK(stored(place, "boolean", ValueKind::null, "null") == "NULL");
  CHECK(stored(place, "char(3)", ValueKind::string, "\"a\"") == "a");
  CHECK(stored(place, "uuid", ValueKind::string, "\"01ARZ3NDEKTSV4RRFFQ69G5FAV\"") ==
        "01563e3a-b5d3-d676-4c61-efb99302bd5b");
  place.observer.run("CREATE DOMAIN short AS text CHECK (length(value) < 3)");
  CHECK(stored(place, "short", ValueKind::string, "\"ab\"") == "ab");
  CHECK(stored(place, "short", ValueKind::string, "\"abc\"") == "23514");
  CHECK(stored(place, "jsonb", ValueKind::null, "null") == "null");
}

TEST_CASE("postgres: what it cannot store is mended by the policies") {
  Place place;
  const std::string raw = R"("a\u0000b \\u0000 )"
                          "\xC3(\"";
  constexpr unsigned kReplace = spool::kReplaceNul | spool::kReplaceText;
  constexpr unsigned kStrip = spool::kStripNul | spool::kReplaceText;
  const std::string replaced =
      "a\xEF\xBF\xBD"
      "b \\u0000 \xEF\xBF\xBD(";
  const std::string stripped = "ab \\u0000 \xEF\xBF\xBD(";
  CHECK(stored(place, "text", ValueKind::escaped_string, raw, kReplace) == replaced);
  CHECK(stored(place, "text", ValueKind::escaped_string, raw, kStrip) == stripped);
  CHECK(stored(place, "jsonb", ValueKind::escaped_string, raw, kReplace) ==
        "\"a\xEF\xBF\xBD"
        "b \\\\u0000 \xEF\xBF\xBD(\"");
  CHECK(stored(place, "jsonb", ValueKind::escaped_string, R"("\ud800")", kReplace) ==
        "\"\xEF\xBF\xBD\"");
  CHECK(stored(place, "jsonb", ValueKind::escaped_string, R"("\u0000")") == "22P05");
}

TEST_CASE("postgres: a move from where the watermark is not commits nothing") {
  Place place;
  place.make_agent_log();
  PostgresDatabase database(place.options());
  connect(database);
  const Route route = place.agent_log();
  const CopyEncoder encoder = encoder_for(database, route);
  const Uuid segment = Uuid::random();
  REQUIRE(resolve(database, segment) == 0);
  REQUIRE(copy(database, route, encoder, {event()}) == Progress::done);
  database.start_commit(segment, 5, 6, 1);
  REQUIRE(drive(database) == Progress::failed);
  CHECK(database.failure().sqlstate == "22012");
  CHECK_FALSE(database.commit_may_have_left());
  CHECK(database.connected());
  connect(database);
  CHECK(place.observer.value("SELECT count(*) FROM events") == "0");
  CHECK(resolve(database, segment) == 0);
}

TEST_CASE("postgres: a refused row interrupts the COPY, and its reason quotes no value") {
  Place place;
  place.make_agent_log();
  place.observer.run("ALTER TABLE events ADD CONSTRAINT no_secrets CHECK (type <> 'secret')");
  PostgresDatabase database(place.options());
  connect(database);
  const Route route = place.agent_log();
  const CopyEncoder encoder = encoder_for(database, route);
  database.start_copy({route.table, names_of(route)}, {});
  succeed(database);
  CopyBuffer buffer;
  encoder.append_header(buffer);
  const SingleRecord bad(event("\"secret\""));
  REQUIRE_FALSE(encoder.append_row(bad.view(), {}, buffer));
  send(database, buffer);
  eventually([&] {
    (void)database.ready_for_rows();
    return database.interrupted();
  });
  database.start_finish_copy();
  REQUIRE(drive(database) == Progress::failed);
  CHECK(database.failure().sqlstate == "23514");
  CHECK(database.failure().message.find("no_secrets") != std::string::npos);
  CHECK(database.failure().message.find("'secret'") == std::string::npos);
  CHECK(action_for(database.failure()) == Action::row);
  CHECK(database.connected());
}

TEST_CASE("postgres: a row that is refused early in a large batch fails the batch") {
  Place place;
  place.make_agent_log();
  PostgresDatabase database(place.options());
  connect(database);
  const Route route = place.agent_log();
  const CopyEncoder encoder = encoder_for(database, route);
  std::vector<RecordBuilder> records(20'000, event());  // of one id
  REQUIRE(copy(database, route, encoder, records) == Progress::failed);
  CHECK(database.failure().sqlstate == "23505");
  CHECK(database.failure().message.find("events_pkey") != std::string::npos);
  CHECK(database.connected());
  connect(database);
  CHECK(place.observer.value("SELECT count(*) FROM events") == "0");
}

TEST_CASE("postgres: a refused value's column is named") {
  Place place;
  place.make_agent_log();
  PostgresDatabase database(place.options());
  connect(database);
  const Route route = place.agent_log();
  const CopyEncoder encoder = encoder_for(database, route);
  const auto bad = event().field(Field::data, ValueKind::string, R"("\u0000")");
  REQUIRE(copy(database, route, encoder, {bad}) == Progress::failed);
  CHECK(database.failure().sqlstate == "22P05");
  CHECK(database.failure().column == "data");

  place.observer.run("ALTER TABLE events ALTER source SET NOT NULL");
  connect(database);
  REQUIRE(copy(database, route, encoder, {event()}) == Progress::failed);
  CHECK(database.failure().sqlstate == "23502");
  CHECK(database.failure().column == "source");
}

TEST_CASE("postgres: words of the server that may quote a row do not reach the failure") {
  Place place;
  place.make_agent_log();
  place.observer.run(
      "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
      " $$ BEGIN RAISE EXCEPTION 'not %', new.type; END $$;"
      "CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse()");
  PostgresDatabase database(place.options());
  connect(database);
  const Route route = place.agent_log();
  const CopyEncoder encoder = encoder_for(database, route);
  REQUIRE(copy(database, route, encoder, {event("\"hush-hush\"")}) == Progress::failed);
  CHECK(database.failure().sqlstate == "P0001");
  CHECK_FALSE(database.failure().message.empty());
  CHECK(database.failure().message.find("hush-hush") == std::string::npos);
}

TEST_CASE("postgres: notices during a COPY are no interruption") {
  Place place;
  place.make_agent_log();
  place.observer.run(
      "CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS"
      " $$ BEGIN RAISE WARNING 'careful'; RETURN new; END $$;"
      "CREATE TRIGGER warn BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION warn();"
      "CREATE TABLE seen (n int)");
  PostgresDatabase database(place.options());
  connect(database);
  const Route route = place.agent_log();
  const CopyEncoder encoder = encoder_for(database, route);
  const Uuid segment = Uuid::random();
  REQUIRE(resolve(database, segment) == 0);
  database.start_copy({route.table, names_of(route)}, {});
  succeed(database);
  CopyBuffer buffer;
  encoder.append_header(buffer);
  std::uint64_t rows = 0;
  for (; rows < 2'000; ++rows) {
    const SingleRecord record(event());
    REQUIRE_FALSE(encoder.append_row(record.view(), {}, buffer));
    send(database, buffer);
    buffer.clear();
  }
  CHECK_FALSE(database.interrupted());
  encoder.append_trailer(buffer);
  send(database, buffer);
  database.start_finish_copy();
  succeed(database);
  CHECK(database.rows_copied() == rows);
  database.start_commit(segment, 0, rows, rows);
  succeed(database);
}

TEST_CASE(
    "postgres: a backend killed in a COPY is a lost connection with the server's last words") {
  Place place;
  place.make_agent_log();
  PostgresDatabase database(place.options());
  connect(database);
  database.start_copy({place.table(), names_of(agent_log_route())}, {});
  succeed(database);
  CopyBuffer buffer;
  CopyEncoder({}, {}).append_header(buffer);
  send(database, buffer);
  place.observer.run(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
      " WHERE query LIKE '%COPY%' AND pid <> pg_backend_pid() AND query LIKE '%" +
      place.schema() + "%'");
  eventually([&] {
    (void)database.ready_for_rows();
    return database.interrupted();
  });
  database.start_finish_copy();
  REQUIRE(drive(database) == Progress::failed);
  CHECK(database.failure().sqlstate == "57P01");
  CHECK_FALSE(database.connected());
  CHECK_FALSE(database.commit_may_have_left());
  connect(database);
}

TEST_CASE("postgres: a connection that the server closed between steps is seen to be closed") {
  Place place;
  place.make_agent_log();
  PostgresDatabase database(place.options());
  connect(database);
  CHECK(database.still_open());
  place.observer.run(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend'"
      " AND pid <> pg_backend_pid()");
  eventually([&] { return !database.still_open(); });
  CHECK_FALSE(database.connected());
}

TEST_CASE("postgres: deferred constraints are checked before the commit") {
  Place place;
  place.make_agent_log();
  place.observer.run(
      "ALTER TABLE events ADD CONSTRAINT one_key UNIQUE (dedupe_key) DEFERRABLE INITIALLY "
      "DEFERRED");
  PostgresDatabase database(place.options());
  connect(database);
  const Route route = place.agent_log();
  const CopyEncoder encoder = encoder_for(database, route);
  const auto twin = [] { return event().string(Field::dedupe_key, "\"same\""); };
  REQUIRE(copy(database, route, encoder, {twin(), twin()}) == Progress::failed);
  CHECK(database.failure().sqlstate == "23505");
  CHECK(database.failure().message.find("one_key") != std::string::npos);
  CHECK_FALSE(database.commit_may_have_left());
}

TEST_CASE("postgres: a backend killed in the commit leaves the outcome unknown") {
  Place place;
  place.make_agent_log();
  PostgresDatabase database(place.options());
  connect(database);
  const Route route = place.agent_log();
  const CopyEncoder encoder = encoder_for(database, route);
  const Uuid segment = Uuid::random();
  REQUIRE(resolve(database, segment) == 0);
  REQUIRE(copy(database, route, encoder, {event()}) == Progress::done);
  // The lock on the watermark's row keeps the commit from going on.
  place.observer.run("BEGIN; SELECT upto FROM watermark FOR UPDATE");
  database.start_commit(segment, 0, 1, 1);
  Observer killer;
  eventually([&] {
    CHECK(database.advance() == Progress::working);
    return killer.value(
               "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
               " WHERE wait_event_type = 'Lock' AND query LIKE '%" +
               place.schema() + "%'") == "t";
  });
  REQUIRE(drive(database) == Progress::failed);
  CHECK_FALSE(database.connected());
  CHECK(database.commit_may_have_left());
  place.observer.run("ROLLBACK");
  connect(database);
  CHECK(resolve(database, segment) == 0);
}

TEST_CASE("postgres: a commit that no standby has confirmed is no success") {
  Place place;
  place.make_agent_log();
  PostgresDatabase database(place.options());
  connect(database);
  const Route route = place.agent_log();
  const CopyEncoder encoder = encoder_for(database, route);
  const Uuid segment = Uuid::random();
  REQUIRE(resolve(database, segment) == 0);
  REQUIRE(copy(database, route, encoder, {event()}) == Progress::done);
  struct Standby {
    Observer& observer;
    explicit Standby(Observer& o) : observer(o) {
      observer.run("ALTER SYSTEM SET synchronous_standby_names = 'nosuch'");
      observer.run("SELECT pg_reload_conf()");
    }
    ~Standby() {
      observer.run("ALTER SYSTEM RESET synchronous_standby_names");
      observer.run("SELECT pg_reload_conf()");
    }
  };
  {
    const Standby standby(place.observer);
    eventually([&] { return Observer().value("SHOW synchronous_standby_names") == "nosuch"; });
    const auto cancel_waiting = [&] {
      eventually([&] {
        CHECK(database.advance() == Progress::working);
        return place.observer.value(
                   "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
                   " WHERE wait_event = 'SyncRep' AND query LIKE '%" +
                   place.schema() + "%'") == "t";
      });
    };
    database.start_commit(segment, 0, 1, 1);
    cancel_waiting();
    REQUIRE(drive(database) == Progress::failed);
    CHECK(database.commit_may_have_left());
    CHECK(place.observer.value("SELECT count(*) FROM events") == "1");

    database.start_resolve(segment, IfMissing::insert);
    cancel_waiting();
    REQUIRE(drive(database) == Progress::failed);

    database.start_confirm({segment, 1});
    cancel_waiting();
    REQUIRE(drive(database) == Progress::failed);
  }
  eventually([&] { return Observer().value("SHOW synchronous_standby_names") == ""; });
  CHECK(resolve(database, segment) == 1);
}

TEST_CASE("postgres: a resolve that may not insert leaves a missing watermark missing") {
  Place place;
  PostgresDatabase database(place.options());
  connect(database);
  const Uuid segment = Uuid::random();
  database.start_resolve(segment, IfMissing::leave);
  succeed(database);
  CHECK_FALSE(database.resolved_upto());
  CHECK(place.observer.value("SELECT count(*) FROM watermark") == "0");
  REQUIRE(resolve(database, segment) == 0);
  database.start_resolve(segment, IfMissing::leave);
  succeed(database);
  CHECK(database.resolved_upto() == 0);
}

TEST_CASE("postgres: a confirm writes the watermark where it is, and fails where it is below") {
  Place place;
  PostgresDatabase database(place.options());
  connect(database);
  const Uuid segment = Uuid::random();
  REQUIRE(resolve(database, segment) == 0);
  place.observer.run("UPDATE watermark SET upto = 7, rows = 5, updated_at = '2020-01-01'");
  database.start_confirm({segment, 7});
  succeed(database);
  CHECK(place.observer.value("SELECT upto || ',' || rows FROM watermark") == "7,5");
  CHECK(place.observer.value("SELECT updated_at > now() - interval '1 hour' FROM watermark") ==
        "t");
  CHECK(database.connected());

  for (const spool::Position& missing :
       {spool::Position{segment, 8}, spool::Position{Uuid::random(), 0}}) {
    connect(database);
    database.start_confirm(missing);
    REQUIRE(drive(database) == Progress::failed);
    CHECK(database.failure().sqlstate == "22012");
    CHECK_FALSE(database.commit_may_have_left());
  }
}

TEST_CASE("postgres: a check reads the watermarks that there are and waits for no lock") {
  Place place;
  PostgresDatabase database(place.options());
  connect(database);
  std::vector<Uuid> segments(500);
  for (Uuid& segment : segments) segment = Uuid::random();
  REQUIRE(resolve(database, segments[3]) == 0);
  REQUIRE(resolve(database, segments[7]) == 0);
  place.observer.run("UPDATE watermark SET upto = 9 WHERE segment_id = '" + segments[7].text() +
                     "'");
  place.observer.run("BEGIN; SELECT * FROM watermark FOR UPDATE");
  database.start_check(segments);
  succeed(database);
  auto found = database.watermarks();
  std::sort(found.begin(), found.end(),
            [](const auto& a, const auto& b) { return a.index < b.index; });
  CHECK(found == std::vector<spool::Position>{{segments[3], 0}, {segments[7], 9}});
  place.observer.run("ROLLBACK");

  database.start_check(std::span(segments).first(1));
  succeed(database);
  CHECK(database.watermarks().empty());
}

TEST_CASE("postgres: what is missing in the database is named, and held on") {
  Place place;
  PostgresDatabase database(place.options());
  connect(database);
  const std::vector<std::string> tables = {place.table()};
  const auto describe_fails = [&](PostgresDatabase& with, const char* sqlstate,
                                  const std::string& words) {
    with.start_describe(tables);
    REQUIRE(drive(with) == Progress::failed);
    CHECK(with.failure().sqlstate == sqlstate);
    CHECK_THAT(with.failure().message, Catch::Matchers::Contains(words));
    CHECK(action_for(with.failure()) == Action::hold);
    CHECK(with.connected());
  };
  const auto does_not_fit = [&](PostgresDatabase& with, const char* sqlstate,
                                const std::string& words) {
    with.start_describe(tables);
    succeed(with);
    const auto failure = RouteTables({place.agent_log()}).bind(with.catalog());
    REQUIRE(failure);
    CHECK(failure->sqlstate == sqlstate);
    CHECK_THAT(failure->message, Catch::Matchers::Contains(words));
  };
  does_not_fit(database, "42P01", "run: sluice schema apply");
  place.make_agent_log();
  place.observer.run("ALTER TABLE watermark RENAME TO hidden");
  describe_fails(database, "42P01", "\"watermark\" does not exist");
  database.start_resolve(Uuid::random(), IfMissing::insert);
  REQUIRE(drive(database) == Progress::failed);
  CHECK(database.failure().sqlstate == "42P01");
  CHECK_THAT(database.failure().message, Catch::Matchers::Contains("run: sluice schema apply"));
  place.observer.run("ALTER TABLE hidden RENAME TO watermark");

  const std::string role = place.schema() + "_role";
  place.observer.run("DROP ROLE IF EXISTS " + role + "; CREATE ROLE " + role +
                     "; GRANT USAGE ON SCHEMA " + place.schema() + " TO " + role);
  PostgresOptions options = place.options();
  options.dsn += " options='-c role=" + role + "'";
  {
    PostgresDatabase limited(options);
    connect(limited);
    describe_fails(limited, "42501", "\"watermark\"");
    place.observer.run("GRANT SELECT, INSERT, UPDATE ON watermark TO " + role);
    does_not_fit(limited, "42501", "role \"" + role + "\" may not INSERT into");
    place.observer.run("GRANT INSERT ON events TO " + role);
    limited.start_describe(tables);
    succeed(limited);
    const CatalogTable& events = limited.catalog().tables.at(0);
    CHECK(events.may_insert);
    CHECK_FALSE(events.may_select);
    CHECK(events.columns.size() == 11);
    CHECK(events.columns[2].type == "character varying(200)");
  }
  place.observer.run("DROP OWNED BY " + role + "; DROP ROLE " + role);
}

TEST_CASE("postgres: a connection that is refused says why, with the SQLSTATE") {
  PostgresOptions options{.dsn = test_dsn() + " dbname=no_such_database"};
  PostgresDatabase database(options);
  database.start_connect();
  REQUIRE(drive(database) == Progress::failed);
  CHECK(database.failure().sqlstate == "3D000");
  CHECK_THAT(database.failure().message, Catch::Matchers::Contains("no_such_database"));
  CHECK(database.failure().message.find("LOCATION") == std::string::npos);
  CHECK_FALSE(database.connected());

  PostgresDatabase nowhere({.dsn = "host=/nonexistent port=1"});
  nowhere.start_connect();
  REQUIRE(drive(nowhere) == Progress::failed);
  CHECK(nowhere.failure().sqlstate.empty());
  CHECK(action_for(nowhere.failure()) == Action::reconnect);

  PostgresDatabase nonsense({.dsn = "no_such_option=1"});
  nonsense.start_connect();
  REQUIRE(drive(nonsense) == Progress::failed);
  CHECK_THAT(nonsense.failure().message, Catch::Matchers::Contains("no_such_option"));
}

TEST_CASE("postgres: a large batch goes out while the caller waits for room") {
  Place place;
  place.make_agent_log();
  PostgresDatabase database(place.options());
  connect(database);
  const Route route = place.agent_log();
  const CopyEncoder encoder = encoder_for(database, route);
  const Uuid segment = Uuid::random();
  REQUIRE(resolve(database, segment) == 0);
  database.start_copy({route.table, names_of(route)}, {});
  succeed(database);
  CopyBuffer buffer;
  encoder.append_header(buffer);
  const std::string data = '"' + std::string(4'000, 'x') + '"';
  constexpr std::uint64_t kRows = 5'000;
  for (std::uint64_t row = 0; row < kRows; ++row) {
    const SingleRecord record(event().string(Field::data, data));
    REQUIRE_FALSE(encoder.append_row(record.view(), {}, buffer));
    if (buffer.size() < 64 * 1024) continue;
    send(database, buffer);
    buffer.clear();
  }
  encoder.append_trailer(buffer);
  send(database, buffer);
  database.start_finish_copy();
  succeed(database);
  CHECK(database.rows_copied() == kRows);
  database.start_commit(segment, 0, kRows, kRows);
  succeed(database);
  CHECK(place.observer.value("SELECT count(*) FROM events WHERE length(data #>> '{}') = 4000") ==
        std::to_string(kRows));
}

TEST_CASE("postgres: the catalog tells what routes need to know of their tables") {
  Place place;
  const std::string role = place.schema() + "_reader";
  place.observer.run(
      "CREATE DOMAIN share AS numeric(3,2) CHECK (VALUE <= 1); CREATE TYPE mood AS ENUM ('ok');"
      "CREATE TABLE parents (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text UNIQUE);"
      "CREATE TABLE \"select \"\"x\"\"\" (id int REFERENCES parents, part int NOT NULL DEFAULT 7,"
      " tags text[], how mood, much share, twice int GENERATED ALWAYS AS (part * 2) STORED,"
      " PRIMARY KEY (part, id)) PARTITION BY RANGE (part);"
      "CREATE UNIQUE INDEX some_of ON \"select \"\"x\"\"\" (part, tags) WHERE how = 'ok';"
      "CREATE UNIQUE INDEX of_expressions ON parents (lower(name));"
      "CREATE FUNCTION skip() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
      "CREATE TRIGGER skips BEFORE INSERT ON parents FOR EACH ROW EXECUTE FUNCTION skip();"
      "ALTER TABLE parents ENABLE ROW LEVEL SECURITY");
  PostgresDatabase database(place.options());
  connect(database);
  const std::vector<std::string> names = {place.schema() + ".select \"x\"", place.table("nothing"),
                                          place.schema() + ".\"parents\"", "no.such"};
  database.start_describe(names);
  succeed(database);
  const Catalog& catalog = database.catalog();
  CHECK(catalog.may_make_temporary);
  REQUIRE(catalog.tables.size() == 4);
  CHECK_FALSE(catalog.tables[1].exists);
  CHECK_FALSE(catalog.tables[3].exists);

  const CatalogTable& table = catalog.tables[0];
  CHECK(table.exists);
  CHECK(table.refers_to == std::vector{catalog.tables[2].oid});
  CHECK(table.skipping_triggers.empty());
  REQUIRE(table.columns.size() == 6);
  CHECK(table.columns[0].encoder == ColumnType::int4);
  CHECK(table.columns[0].not_null);
  CHECK(table.columns[1].has_default);
  CHECK(table.columns[2].is_array);
  CHECK(table.columns[2].element_type == "text");
  CHECK_FALSE(table.columns[2].encoder);
  CHECK(table.columns[3].base_kind == 'e');
  CHECK(table.columns[3].base_type.empty());
  CHECK(table.columns[4].encoder == ColumnType::numeric);
  CHECK(table.columns[5].is_generated);
  CHECK_FALSE(table.columns[5].has_default);
  REQUIRE(table.unique_keys.size() == 2);
  CHECK(table.unique_keys[0].is_primary);
  CHECK(table.unique_keys[0].columns == std::vector<std::string>{"part", "id"});
  CHECK(table.unique_keys[1].columns == std::vector<std::string>{"part", "tags"});
  CHECK_THAT(table.unique_keys[1].predicate, Catch::Matchers::Contains("how = 'ok'"));

  const CatalogTable& parents = catalog.tables[2];
  CHECK(parents.skipping_triggers == "skips");
  CHECK(parents.columns[0].is_always_identity);
  CHECK(parents.unique_keys.size() == 2);
  CHECK(parents.may_select);
}

TEST_CASE("postgres: a batch of several tables is one transaction, in the order of references") {
  Place place;
  place.observer.run(
      "CREATE TABLE parents (v bigint PRIMARY KEY);"
      "CREATE TABLE children (v bigint REFERENCES parents DEFERRABLE INITIALLY DEFERRED)");
  PostgresDatabase database(place.options());
  connect(database);
  const Route parents{.table = place.table("parents"), .columns = {{"v", Source::data}}};
  const Route children{.table = place.table("children"), .columns = {{"v", Source::data}}};
  const CopyEncoder encoder = encoder_for(database, parents);
  const Uuid segment = Uuid::random();
  REQUIRE(resolve(database, segment) == 0);
  const auto send_value = [&](const Route& route, const std::string& value, CopyPlace target) {
    database.start_copy({route.table, names_of(route)}, target);
    succeed(database);
    const SingleRecord record(event().field(Field::data, ValueKind::number, value));
    CopyBuffer buffer;
    encoder.append_header(buffer);
    REQUIRE_FALSE(encoder.append_row(record.view(), {}, buffer));
    encoder.append_trailer(buffer);
    send(database, buffer);
    database.start_finish_copy();
    succeed(database);
    CHECK(database.rows_copied() == 1);
  };
  send_value(children, "1", {true, false});
  send_value(parents, "1", {false, false});
  database.start_settle({.opens = false});
  succeed(database);
  database.start_commit(segment, 0, 2, 2);
  succeed(database);
  CHECK(place.observer.value("SELECT count(*) FROM children JOIN parents USING (v)") == "1");

  send_value(children, "2", {true, false});
  database.start_settle({.opens = false});
  REQUIRE(drive(database) == Progress::failed);
  CHECK(database.failure().sqlstate == "23503");
  CHECK(database.connected());

  PostgresDatabase another(place.options());
  connect(another);
  another.start_settle({});
  succeed(another);
  another.start_commit(segment, 2, 3, 0);
  succeed(another);
  CHECK(resolve(another, segment) == 3);
}

TEST_CASE("postgres: what a savepoint takes back is gone, what came before it stays") {
  Place place;
  place.observer.run("CREATE TABLE one (v bigint CHECK (v <> 13))");
  PostgresDatabase database(place.options());
  connect(database);
  const Route route{.table = place.table("one"), .columns = {{"v", Source::data}}};
  const CopyEncoder encoder = encoder_for(database, route);
  const Uuid segment = Uuid::random();
  REQUIRE(resolve(database, segment) == 0);
  const auto piece = [&](const std::vector<std::string>& values, const CopyPlace& where) {
    database.start_copy({route.table, names_of(route)}, where);
    succeed(database);
    CopyBuffer buffer;
    encoder.append_header(buffer);
    for (const std::string& value : values) {
      const SingleRecord record(event().field(Field::data, ValueKind::number, value));
      REQUIRE_FALSE(encoder.append_row(record.view(), {}, buffer));
    }
    encoder.append_trailer(buffer);
    send(database, buffer);
    database.start_finish_copy();
    return drive(database);
  };
  REQUIRE(piece({"1", "2"}, {true, true, Savepoint::make}) == Progress::done);
  REQUIRE(piece({"3", "4", "13", "5"}, {false, true, Savepoint::renew}) == Progress::failed);
  CHECK(database.failure().sqlstate == "23514");
  CHECK(database.failure().row == 3);
  REQUIRE(piece({"3", "4"}, {false, true, Savepoint::return_to}) == Progress::done);
  REQUIRE(piece({"13"}, {false, true, Savepoint::renew}) == Progress::failed);
  database.start_settle({false, true, Savepoint::return_to});
  succeed(database);
  database.start_commit(segment, 0, 5, 4);
  succeed(database);
  CHECK(place.observer.value("SELECT string_agg(v::text, ',' ORDER BY v) FROM one") == "1,2,3,4");

  REQUIRE(piece({"13"}, {}) == Progress::failed);
  database.start_rollback();
  succeed(database);
  CHECK(resolve(database, segment) == 5);
}

}  // namespace sluice::sink
