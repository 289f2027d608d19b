// The settings table, the loader's values and complaints, and the pages made from the table.
#include <catch2/catch.hpp>
#include <fstream>
#include <set>
#include <sstream>

#include "config/dsn_secret.hpp"
#include "config/loader.hpp"
#include "config/memory_budget.hpp"
#include "config/nearest_name.hpp"
#include "config/reference.hpp"
#include "config/settings_table.hpp"

using namespace sluice::config;
using std::chrono::milliseconds;

namespace {

Settings load_file(std::string_view toml, const Environment& environment = {}) {
  return load_text(toml, "sluice.toml", environment);
}

// What the loader complains about. Empty if it does not.
std::vector<std::string> problems_of(std::string_view toml, const Environment& environment = {}) {
  try {
    static_cast<void>(load_file(toml, environment));
  } catch (const LoadError& error) {
    return error.problems();
  }
  return {};
}

std::string problem_of(std::string_view toml, const Environment& environment = {}) {
  const std::vector<std::string> problems = problems_of(toml, environment);
  REQUIRE(problems.size() == 1);
  return problems.front();
}

std::string content_of(const std::string& file) {
  std::ifstream stream(std::string(SLUICE_SOURCE_DIR) + "/" + file);
  REQUIRE(stream);
  std::ostringstream content;
  content << stream.rdbuf();
  return content.str();
}

}  // namespace

TEST_CASE("settings: the defaults are those of the table") {
  const Settings settings = default_settings();
  CHECK(settings.ingest.socket == "/run/sluice/events.sock");
  CHECK(settings.ingest.socket_mode == 0660);
  CHECK(settings.ingest.line_bytes_max == 1048576);
  CHECK(settings.ingest.queue_bytes_max == 16777216);
  CHECK(settings.ingest.allow_uids.empty());
  CHECK(settings.ingest.time_fields ==
        std::vector<std::string>{"time", "timestamp", "@timestamp", "ts"});
  CHECK(settings.spool.durability == "power");
  CHECK(settings.dedupe.window == milliseconds{600'000});
  CHECK(settings.dedupe.keys_max == 1'000'000);
  CHECK(settings.postgres.lanes == 2);
  CHECK(settings.postgres.batch_delay == milliseconds{20});
  CHECK(settings.postgres.drain_timeout == milliseconds{10'000});
  CHECK(settings.metrics.listen == "127.0.0.1:9464");
}

TEST_CASE("settings: each name in the table is there once and its section is explained") {
  std::set<std::string> names;
  for (const Setting& setting : settings_table()) {
    INFO(setting.name());
    CHECK(names.insert(setting.name()).second);
    CHECK_FALSE(section_sentence(setting.section).empty());
    CHECK(setting.sentence.ends_with('.'));
  }
}

TEST_CASE("settings: a problem is one line, whatever the names and values in the file hold") {
  CHECK(problem_of("\"a\\n\\u001b\" = 1") == "sluice.toml:1: a\\x0a\\x1b is not a section");
  CHECK(problem_of("", {{"SLUICE_LOG_LEVEL", "x\ny"}}).find('\n') == std::string::npos);
}

TEST_CASE("settings: the file wins over the defaults and the environment over the file") {
  const std::string_view toml =
      "[postgres]\nlanes = 4\nbatch_delay = \"5ms\"\n[log]\nlevel = \"debug\"\n";
  CHECK(load_file(toml).postgres.lanes == 4);
  CHECK(load_file(toml).log.level == "debug");
  const Settings settings = load_file(toml, {{"SLUICE_POSTGRES_LANES", "8"}, {"HOME", "/"}});
  CHECK(settings.postgres.lanes == 8);
  CHECK(settings.postgres.batch_delay == milliseconds{5});
}

TEST_CASE("settings: every kind can be set in the environment") {
  const Settings settings = load({}, {{"SLUICE_INGEST_SOCKET", "/tmp/s"},
                                      {"SLUICE_INGEST_SOCKET_MODE", "0600"},
                                      {"SLUICE_INGEST_ALLOW_UIDS", "0,1000"},
                                      {"SLUICE_INGEST_TIME_FIELDS", "when"},
                                      {"SLUICE_INGEST_QUEUE_BYTES_MAX", "32MiB"},
                                      {"SLUICE_DEDUPE_WINDOW", "1h"},
                                      {"SLUICE_DEDUPE_SCOPE", "global"},
                                      {"SLUICE_METRICS_LISTEN", ""}});
  CHECK(settings.ingest.socket == "/tmp/s");
  CHECK(settings.ingest.socket_mode == 0600);
  CHECK(settings.ingest.allow_uids == std::vector<std::uint64_t>{0, 1000});
  CHECK(settings.ingest.time_fields == std::vector<std::string>{"when"});
  CHECK(settings.ingest.queue_bytes_max == 33554432);
  CHECK(settings.dedupe.window == milliseconds{3'600'000});
  CHECK(settings.dedupe.scope == "global");
  CHECK(settings.metrics.listen.empty());
}

TEST_CASE("settings: lists, sizes as numbers and sizes as text are read from the file") {
  const Settings settings = load_file(
      "[ingest]\nallow_uids = [1, 2]\ntime_fields = [\"a\", \"b\"]\nline_bytes_max = 4096\n"
      "queue_bytes_max = \"8MiB\"\n");
  CHECK(settings.ingest.allow_uids == std::vector<std::uint64_t>{1, 2});
  CHECK(settings.ingest.time_fields == std::vector<std::string>{"a", "b"});
  CHECK(settings.ingest.line_bytes_max == 4096);
  CHECK(settings.ingest.queue_bytes_max == 8388608);
  CHECK(load_file("[ingest]\nallow_uids = []").ingest.allow_uids.empty());
}

TEST_CASE("settings: an unknown key is named with its line and the nearest key") {
  CHECK(problem_of("[ingest]\nsocket = \"/s\"\nsoket_mode = \"0600\"\n") ==
        "sluice.toml:3: ingest.soket_mode is not a setting; did you mean socket_mode?");
  CHECK(problem_of("[postgres]\nlane = 2\n") ==
        "sluice.toml:2: postgres.lane is not a setting; did you mean lanes?");
}

TEST_CASE("settings: a key in the wrong section is sent to the right one") {
  CHECK(problem_of("[ingest]\ndsn = \"\"\n") ==
        "sluice.toml:2: ingest.dsn is not a setting; dsn belongs in [postgres]");
  CHECK(problem_of("dsn = \"\"\n") ==
        "sluice.toml:1: dsn is not a section; it is a key of [postgres]");
}

TEST_CASE("settings: an unknown section is named with the nearest section") {
  CHECK(problem_of("\n[postgress]\nlanes = 2\n") ==
        "sluice.toml:2: postgress is not a section; did you mean postgres?");
  CHECK(problem_of("[zzzzzzzz]\n") == "sluice.toml:1: zzzzzzzz is not a section");
}

TEST_CASE("settings: a listener of its own is as [ingest] where it says nothing else") {
  const Settings settings = load_file(
      "[[listener]]\nsocket = \"/s/lossy\"\non_full = \"drop\"\nsocket_mode = \"0600\"\n"
      "[[listener]]\ntcp = \"127.0.0.1:1\"\ndefault_type = \"\"\nallow_uids = []\n"
      "[ingest]\nallow_uids = [7]\nsocket_group = \"agents\"\n",
      {{"SLUICE_INGEST_ON_FULL", "reject"}});
  REQUIRE(settings.listeners.size() == 2);
  const Settings::Listener& lossy = settings.listeners[0];
  CHECK(lossy.socket == "/s/lossy");
  CHECK(lossy.tcp.empty());
  CHECK(lossy.on_full == "drop");
  CHECK(lossy.socket_mode == 0600);
  CHECK(lossy.socket_group == "agents");
  CHECK(lossy.default_type == "log");
  CHECK(lossy.allow_uids == std::vector<std::uint64_t>{7});
  const Settings::Listener& tcp = settings.listeners[1];
  CHECK(tcp.socket.empty());
  CHECK(tcp.tcp == "127.0.0.1:1");
  CHECK(tcp.on_full == "reject");
  CHECK(tcp.socket_mode == 0660);
  CHECK(tcp.default_type.empty());
  CHECK(tcp.allow_uids.empty());
  CHECK(settings.ingest.socket == default_settings().ingest.socket);
}

TEST_CASE("settings: what is wrong with a listener is named with its line") {
  CHECK(problem_of("[[listener]]\nsocket = \"/s\"\nonfull = \"drop\"\n") ==
        "sluice.toml:3: listener.onfull is not a setting; did you mean on_full?");
  CHECK(problem_of("[[listener]]\nsocket = \"/s\"\non_full = \"lose\"\n") ==
        "sluice.toml:3: listener.on_full \"lose\" is not \"wait\" or \"reject\" or \"drop\"");
  CHECK(problem_of("[[listener]]\non_full = \"drop\"\n") ==
        "sluice.toml:1: a [[listener]] needs one of socket and tcp");
  CHECK(problem_of("[[listener]]\nsocket = \"\"\n") ==
        "sluice.toml:1: a [[listener]] needs one of socket and tcp");
  CHECK(problem_of("[[listener]]\nsocket = \"/s\"\ntcp = \"127.0.0.1:1\"\n") ==
        "sluice.toml:1: a [[listener]] needs one of socket and tcp");
  CHECK(problem_of("[listener]\nsocket = \"/s\"\n") ==
        "sluice.toml:1: listeners are written as [[listener]]");
  CHECK(problem_of("[ingest]\nsocket = \"/s\"\n[[listener]]\nsocket = \"/s\"\n") ==
        "sluice.toml:3: there is another listener at /s");
}

TEST_CASE("settings: values that do not fit are refused with what would fit") {
  struct Case {
    const char* toml;
    const char* problem;
  };
  const Case refused = GENERATE(
      Case{"[postgres]\nlanes = 0", "postgres.lanes 0 is out of range: 1 to 64"},
      Case{"[postgres]\nlanes = -1", "postgres.lanes -1 is out of range: 1 to 64"},
      Case{"[postgres]\nlanes = \"2\"", "postgres.lanes is a string, and must be a whole number"},
      Case{"[postgres]\nlanes = 2.0",
           "postgres.lanes is a number with a fraction, and must be a whole number"},
      Case{
          "[postgres]\nbatch_delay = 20",
          "postgres.batch_delay is a number, and must be a duration such as \"20ms\" or \"10min\""},
      Case{"[postgres]\nbatch_delay = \"20\"",
           "postgres.batch_delay \"20\" is not a duration such as \"20ms\" or \"10min\""},
      Case{"[ingest]\nline_bytes_max = \"16MiB\"",
           "ingest.line_bytes_max 16MiB is out of range: 1KiB to 16383KiB"},
      Case{"[ingest]\nsocket_mode = 660",
           "ingest.socket_mode is a number, and must be an octal file mode as a string, such as "
           "\"0660\""},
      Case{"[ingest]\nsocket_mode = \"4777\"",
           "ingest.socket_mode 4777 is out of range: 0000 to 0777"},
      Case{"[ingest]\nnul = \"drop\"",
           "ingest.nul \"drop\" is not \"replace\" or \"strip\" or \"reject\""},
      Case{"[ingest]\nallow_uids = [1, \"root\"]",
           "ingest.allow_uids is a list of mixed values, and must be a list of whole numbers"},
      Case{"[ingest]\nallow_uids = [4294967295]",
           "ingest.allow_uids 4294967295 is out of range: 0 to 4294967294"},
      Case{"[ingest]\ntime_fields = \"time\"",
           "ingest.time_fields is a string, and must be a list of strings"},
      Case{"[ingest]\nsocket = true", "ingest.socket is true or false, and must be a string"});
  CHECK(problem_of(refused.toml) == std::string("sluice.toml:2: ") + refused.problem);
}

TEST_CASE("settings: everything that is wrong is told at once") {
  const std::vector<std::string> problems =
      problems_of("[ingest]\nnull = \"strip\"\n\n[postgres]\nlanes = 99\n",
                  {{"SLUICE_LOG_LEVEL", "loud"}, {"SLUICE_LOG_COLOR", "1"}});
  REQUIRE(problems.size() == 4);
  CHECK(problems[0] == "sluice.toml:2: ingest.null is not a setting; did you mean nul?");
  CHECK(problems[1] == "sluice.toml:5: postgres.lanes 99 is out of range: 1 to 64");
  CHECK(problems[2] ==
        "SLUICE_LOG_LEVEL: log.level \"loud\" is not \"debug\" or \"info\" or \"warning\" or "
        "\"error\"");
  CHECK(problems[3].starts_with("SLUICE_LOG_COLOR: log.color is not a setting"));
}

TEST_CASE("settings: broken TOML is named with its line") {
  CHECK(problem_of("[ingest]\nsocket = /run\n").starts_with("sluice.toml:2: "));
}

TEST_CASE("settings: variables of other programs are left alone") {
  CHECK_NOTHROW(load({}, {{"SLUICE_CONFIG", "x"}, {"SLUICE_BINARY", "y"}, {"INGEST_SOCKET", "z"}}));
}

TEST_CASE("settings: a line that the queue could never hold is refused") {
  CHECK(problem_of("[ingest]\nline_bytes_max = \"8MiB\"\nqueue_bytes_max = \"4MiB\"\n") ==
        "sluice.toml: ingest.line_bytes_max (8MiB) must not be more than ingest.queue_bytes_max "
        "(4MiB)");
}

TEST_CASE("settings: a spool that its segments could never fit is refused, but not in memory") {
  const std::string_view toml = "[spool]\nbytes_max = \"100MiB\"\n";
  CHECK(problem_of(toml) ==
        "sluice.toml: spool.segment_bytes (64MiB) must fit 3 times into spool.bytes_max (100MiB): "
        "one for each of postgres.lanes, and one more");
  CHECK(problems_of(toml, {{"SLUICE_POSTGRES_LANES", "1"}, {"SLUICE_SPOOL_SEGMENT_BYTES", "50MiB"}})
            .empty());
  CHECK(problems_of(toml, {{"SLUICE_SPOOL_DURABILITY", "memory"}}).empty());
  CHECK(problem_of("[spool]\ndir = \"\"\n") ==
        "sluice.toml: spool.dir must name a directory, or spool.durability be \"memory\"");
}

TEST_CASE("settings: a file that is not there is named") {
  CHECK_THROWS_WITH(load("/nowhere/sluice.toml", {}),
                    "/nowhere/sluice.toml: cannot be read: No such file or directory");
}

TEST_CASE("settings: an empty file leaves the defaults, and a directory is no file") {
  CHECK(load("/dev/null", {}).postgres.lanes == default_settings().postgres.lanes);
  CHECK_THROWS_WITH(load("/dev", {}), "/dev: cannot be read: Is a directory");
}

TEST_CASE("settings: the file asked for wins over the one in the environment") {
  CHECK(choose_file("/a", {{"SLUICE_CONFIG", "/b"}}) == "/a");
  CHECK(choose_file({}, {{"SLUICE_CONFIG", "/b"}}) == "/b");
}

TEST_CASE("settings: a password in the file's dsn is refused and never repeated") {
  const std::string problem = problem_of("[postgres]\ndsn = \"host=db password=hunter2\"\n");
  CHECK(problem.starts_with("sluice.toml:2: postgres.dsn holds a password"));
  CHECK(problem.find("passfile") != std::string::npos);
  CHECK(problem.find("hunter2") == std::string::npos);
}

TEST_CASE("settings: passwords are found in every form of a dsn") {
  CHECK(holds_password("password=x"));
  CHECK(holds_password("host=db  password = 'x y' user=u"));
  CHECK(holds_password("host='a\\'b' sslpassword=x"));
  CHECK(holds_password("postgres://u:pw@h/db"));
  CHECK(holds_password("postgresql://h/db?connect_timeout=1&password=x"));
  CHECK_FALSE(holds_password(""));
  CHECK_FALSE(holds_password("host=db user=password passfile=/etc/password"));
  CHECK_FALSE(holds_password("host='x password=y'"));
  CHECK_FALSE(holds_password("host=a\\ password=b"));
  CHECK_FALSE(holds_password("postgres://u@h:5432/db?sslmode=require"));
  CHECK_FALSE(holds_password("postgresql:///db?host=/run/postgresql"));
}

TEST_CASE("settings: the edit distance counts letters put in, left out, changed and swapped") {
  CHECK(edit_distance("", "abc") == 3);
  CHECK(edit_distance("lanes", "lanes") == 0);
  CHECK(edit_distance("lane", "lanes") == 1);
  CHECK(edit_distance("laens", "lanes") == 1);
  CHECK(edit_distance("kitten", "sitting") == 3);
}

TEST_CASE("settings: the memory budget is the sum of its shares") {
  Settings settings = default_settings();
  settings.spool.durability = "memory";
  const std::uint64_t before = memory_budget_bytes(settings);
  settings.ingest.queue_bytes_max += 1'000;
  settings.postgres.lanes += 1;
  CHECK(memory_budget_bytes(settings) == before + 1'000 + settings.postgres.batch_bytes_max);
}

TEST_CASE("settings: the reference with its comments taken off is a file with the defaults") {
  std::istringstream reference(reference_toml());
  std::string toml;
  std::size_t values = 0;
  for (std::string line; std::getline(reference, line);) {
    const bool value = line.starts_with('#') && !line.starts_with("# ") && line != "#";
    values += value ? 1 : 0;
    toml += (value ? line.substr(1) : line) + "\n";
  }
  CHECK(values == settings_table().size());
  const Settings settings = load_file(toml);
  CHECK(settings.ingest.socket == default_settings().ingest.socket);
  CHECK(settings.ingest.time_fields == default_settings().ingest.time_fields);
  CHECK(settings.dedupe.window == default_settings().dedupe.window);
}

TEST_CASE("settings: the reference in the repository is in step with the table") {
  CHECK(content_of("config/sluice.toml") == reference_toml());
  CHECK(content_of("docs/settings.md") == reference_markdown());
}
