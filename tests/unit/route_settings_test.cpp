// [[route]] in the configuration, and the routes that the sink gets of it.
#include <catch2/catch.hpp>

#include <string>
#include <string_view>
#include <vector>

#include "config/loader.hpp"
#include "config/model.hpp"
#include "config/settings_table.hpp"
#include "daemon/route_list.hpp"

namespace sluice::config {
namespace {

Settings load_file(std::string_view toml) {
  return load_text(toml, "sluice.toml", {});
}

std::vector<std::string> problems_of(std::string_view toml) {
  try {
    static_cast<void>(load_file(toml));
  } catch (const LoadError& error) {
    return error.problems();
  }
  return {};
}

std::string problem_of(std::string_view toml) {
  const std::vector<std::string> problems = problems_of(toml);
  REQUIRE(problems.size() == 1);
  return problems.front();
}

// A route whose third line is this one.
std::string route_with(std::string_view line) {
  return "[[route]]\nmatch = \"*\"\n" + std::string(line) +
         "\ntable = \"t\"\ncolumns = [ { name = \"a\", from = \"$id\" } ]\n";
}

// A route whose only column is this one, in line 4.
std::string column_with(std::string_view column) {
  return "[[route]]\nmatch = \"*\"\ntable = \"t\"\ncolumns = [ " + std::string(column) + " ]\n";
}

std::string constant(std::string_view value) {
  const Settings settings =
      load_file(column_with("{ name = \"c\", value = " + std::string(value) + " }"));
  return settings.routes.at(0).columns.at(0).value;
}

sink::Column sink_column(std::string_view from, std::string_view before = "") {
  const Settings settings = load_file(
      std::string(before) + column_with("{ name = \"c\", from = \"" + std::string(from) + "\" }"));
  return daemon::route_list(settings, "host-1").at(0).columns.at(0);
}

}  // namespace

TEST_CASE("route settings: a route is read with all that it says") {
  const Settings settings = load_file(
      "[[route]]\n"
      "match = \"audit.*\"\n"
      "table = '\"we.ird\".\"t\"'\n"
      "mode = \"merge\"\n"
      "key = [\"id\"]\n"
      "on_conflict = \"skip\"\n"
      "trigger_may_skip = true\n"
      "dedupe = [\"spirit_id\", { from = \"content\", limit = 100 }, \"time\"]\n"
      "dedupe_if = \"source_uri\"\n"
      "columns = [ { name = \"id\", from = \"$id\" },\n"
      "            { name = \"cost\", from = \"/data/cost\", type = \"numeric\", required = true "
      "},\n"
      "            { name = \"region\", value = \"eu-1\" } ]\n"
      "[[route]]\nmatch = \"*\"\ntable = \"events\"\ncolumns = [ { name = \"id\", from = \"id\" } "
      "]\n");
  REQUIRE(settings.routes.size() == 2);
  const Settings::Route& route = settings.routes[0];
  CHECK(route.match == "audit.*");
  CHECK(route.table == "\"we.ird\".\"t\"");
  CHECK(route.mode == "merge");
  CHECK(route.key == std::vector<std::string>{"id"});
  CHECK(route.on_conflict == "skip");
  CHECK(route.trigger_may_skip);
  REQUIRE(route.dedupe.size() == 3);
  CHECK(route.dedupe[1].from == "content");
  CHECK(route.dedupe[1].characters_max == 100);
  CHECK(route.dedupe[2].from == "time");
  CHECK(route.dedupe[2].characters_max == 0);
  CHECK(route.dedupe_if == "source_uri");
  CHECK(route.place == "sluice.toml:1");
  REQUIRE(route.columns.size() == 3);
  CHECK(route.columns[1].name == "cost");
  CHECK(route.columns[1].from == "/data/cost");
  CHECK(route.columns[1].type == "numeric");
  CHECK(route.columns[1].required);
  CHECK(route.columns[1].place == "sluice.toml:11");
  CHECK(route.columns[2].value == "\"eu-1\"");
  CHECK(settings.routes[1].mode == "append");
  CHECK(settings.routes[1].on_conflict == "compare");
  CHECK(settings.routes[1].key.empty());
  CHECK(settings.routes[1].place == "sluice.toml:13");
}

TEST_CASE("route settings: a constant may be any value, and is JSON") {
  CHECK(constant("\"a\\\"\\\\\\n\\u00e4\"") == "\"a\\\"\\\\\\u000a\xC3\xA4\"");
  CHECK(constant("17") == "17");
  CHECK(constant("-0.5") == "-0.5");
  CHECK(constant("true") == "true");
  CHECK(constant("[1, \"b\", [false]]") == "[1,\"b\",[false]]");
  CHECK(constant("{ a = 1, b = { c = [] } }") == "{\"a\":1,\"b\":{\"c\":[]}}");
  CHECK(constant("2026-01-02T03:04:05Z") == "\"2026-01-02T03:04:05Z\"");
  CHECK(problem_of(column_with("{ name = \"c\", value = inf }")) ==
        "sluice.toml:4: a column's value cannot be written as JSON");
}

TEST_CASE("route settings: what is wrong with a route is named with its line") {
  struct Case {
    const char* line;
    const char* problem;
  };
  const Case wrong = GENERATE(
      Case{"tabel = \"t\"", "route.tabel is not a setting; did you mean table?"},
      Case{"mode = \"upsert\"", "route.mode \"upsert\" is not \"append\" or \"merge\""},
      Case{"on_conflict = \"die\"",
           "route.on_conflict \"die\" is not \"compare\" or \"skip\" or \"dead\""},
      Case{"on_conflict = 1", "route.on_conflict must be a string"},
      Case{"key = \"a\"", "route.key must be a list of column names"},
      Case{"key = [\"aa\"]",
           "route.key names \"aa\", which is none of the route's columns; did you mean a?"},
      Case{"trigger_may_skip = 1", "route.trigger_may_skip must be true or false"},
      Case{"dedupe = \"a\"", "route.dedupe must be a list of fields"},
      Case{"dedupe = [{ from = \"a\", limit = 0 }]",
           "a limit in route.dedupe must be 1 to 1000000 characters"},
      Case{"dedupe = [{ limit = 1 }]", "a part of route.dedupe needs a from"},
      Case{"dedupe = [{ from = \"a\", limt = 1 }]",
           "route.dedupe.limt is not a setting; did you mean limit?"},
      Case{"dedupe_if = \"a\"", "route.dedupe_if has no meaning without dedupe"});
  CHECK(problem_of(route_with(wrong.line)) == std::string("sluice.toml:3: ") + wrong.problem);
}

TEST_CASE("route settings: what is wrong with a column is named with its line") {
  struct Case {
    const char* column;
    const char* problem;
  };
  const Case wrong = GENERATE(
      Case{"{ name = \"c\", form = \"$id\", value = 1 }",
           "route.columns.form is not a setting; did you mean from?"},
      Case{"{ name = \"c\" }", "column \"c\" needs one of from and value"},
      Case{"{ name = \"c\", from = \"a\", value = 1 }", "column \"c\" needs one of from and value"},
      Case{"{ from = \"a\" }", "a column needs a name"},
      Case{"{ name = \"c\", from = \"$recieved_at\" }",
           "a column's from \"$recieved_at\" is not a value of the daemon's; did you mean "
           "$received_at?"},
      Case{"{ name = \"c\", from = \"/a/~2\" }",
           "a column's from \"/a/~2\" is no JSON pointer: write ~ as ~0"},
      Case{"{ name = \"c\", from = \"\" }", "a column's from is empty"},
      Case{"{ name = \"c\", from = \"a\", required = \"yes\" }",
           "a column's required must be true or false"},
      Case{"{ name = \"c\", from = \"a\" }, { name = \"c\", from = \"b\" }",
           "there is another column \"c\""},
      Case{"", "route.columns must be a list such as [ { name = \"id\", from = \"$id\" } ]"},
      Case{"1", "route.columns must be a list such as [ { name = \"id\", from = \"$id\" } ]"});
  CHECK(problem_of(column_with(wrong.column)) == std::string("sluice.toml:4: ") + wrong.problem);
}

TEST_CASE("route settings: what a route lacks is named") {
  CHECK(problems_of("[[route]]\nmode = \"append\"\n") ==
        std::vector<std::string>{"sluice.toml:1: a [[route]] needs match",
                                 "sluice.toml:1: a [[route]] needs table",
                                 "sluice.toml:1: a [[route]] needs columns"});
  CHECK(problem_of("[route]\nmatch = \"*\"\n") == "sluice.toml:1: routes are written as [[route]]");
}

TEST_CASE("route settings: a table's name has parts and its quotes come in pairs") {
  for (const char* name : {"\"a", "a.", ".a", "a..b", "\"a\"b\""}) {
    const std::string toml = std::string("[[route]]\nmatch = \"*\"\ntable = '") + name +
                             "'\ncolumns = [ { name = \"a\", from = \"$id\" } ]\n";
    CHECK(problem_of(toml).starts_with("sluice.toml:3: route.table "));
  }
}

TEST_CASE("route settings: a route that no event reaches is refused") {
  const auto with_matches = [](const std::vector<std::string>& matches) {
    std::string toml;
    for (const std::string& match : matches) {
      toml += "[[route]]\nmatch = \"" + match +
              "\"\ntable = \"t\"\ncolumns = [ { name = \"a\", from = \"$id\" } ]\n";
    }
    return toml;
  };
  CHECK(
      problem_of(with_matches({"a*b", "*"})).ends_with("route.match has a * that is not its end"));
  CHECK(problem_of(with_matches({"a", "a"})) ==
        "sluice.toml:5: no event reaches the route for \"a\": the one for \"a\" before it "
        "(sluice.toml:1) takes them all");
  CHECK(problems_of(with_matches({"a.*", "a.b", "a.b.*", "a.*"})).size() == 3);
  CHECK(problems_of(with_matches({"*", "a"})).size() == 1);
  CHECK(problems_of(with_matches({"a.b", "a.*", "a", "a*", "*"})).empty());
}

TEST_CASE("route list: without any route those of the model count, and take every event") {
  Settings settings = default_settings();
  const auto routes = daemon::route_list(settings, "host-1");
  REQUIRE(routes.size() == 3);
  CHECK(routes[0].table == "nodes");
  CHECK(routes[2].table == "events");
  CHECK(routes[2].match == "*");
  CHECK(routes[2].place.starts_with("agent_log.toml:"));
  CHECK(daemon::takes_every_type(settings));
  settings.postgres.model = "spirits";
  CHECK(daemon::route_list(settings, "host-1").at(0).table == "spirits");
  settings.postgres.model = "conversations";
  CHECK_FALSE(daemon::takes_every_type(settings));
}

TEST_CASE("route list: every model has routes, and is a choice of the setting") {
  const Setting* const setting = find_setting("postgres", "model");
  REQUIRE(setting != nullptr);
  std::vector<std::string> choices(setting->choices.begin(), setting->choices.end());
  CHECK(choices == model_names());
  for (const std::string& model : model_names()) {
    CAPTURE(model);
    CHECK_FALSE(model_routes(model).empty());
  }
}

TEST_CASE("route list: a last route that matches less than everything is seen") {
  const std::string_view audit =
      "[[route]]\nmatch = \"audit.*\"\ntable = \"t\"\n"
      "columns = [ { name = \"a\", from = \"$id\" } ]\n";
  CHECK_FALSE(daemon::takes_every_type(load_file(audit)));
  CHECK(daemon::takes_every_type(load_file(std::string(audit) + route_with(""))));
}

TEST_CASE("route list: names in from lead to fields, members, pointers and the daemon's values") {
  using sink::Source;
  const std::string when = "[ingest]\ntime_fields = [\"when\"]\n";
  CHECK(sink_column("$id").source == Source::id);
  CHECK(sink_column("id").source == Source::id);
  CHECK(sink_column("$segment").source == Source::segment);
  CHECK(sink_column("$extra").source == Source::extra);
  CHECK(sink_column("$instance").source == Source::constant);
  CHECK(sink_column("$instance").from == "\"host-1\"");
  CHECK(sink_column("time").source == Source::occurred_at);
  CHECK(sink_column("ts").source == Source::occurred_at);
  CHECK(sink_column("when", when).source == Source::occurred_at);
  CHECK(sink_column("/when", when).source == Source::occurred_at);
  CHECK(sink_column("ts", when).source == Source::member);
  CHECK(sink_column("data").source == Source::data);
  CHECK(sink_column("/data").source == Source::data);
  CHECK(sink_column("host").source == Source::member);
  CHECK(sink_column("host").from == "host");
  CHECK(sink_column("/a~1b~0").source == Source::member);
  CHECK(sink_column("/a~1b~0").from == "a/b~");
  CHECK(sink_column("/$id").source == Source::member);
  CHECK(sink_column("/$id").from == "$id");
  CHECK(sink_column("/data/cost").source == Source::pointer);
  CHECK(sink_column("/data/cost").from == "/data/cost");
}

TEST_CASE("route list: a route keeps its mode, key and places") {
  const Settings settings = load_file(
      "[[route]]\nmatch = \"*\"\ntable = \"t\"\nmode = \"merge\"\nkey = [\"k\"]\n"
      "on_conflict = \"dead\"\ntrigger_may_skip = true\n"
      "columns = [ { name = \"k\", value = 7, type = \"int\", required = true } ]\n");
  const sink::Route route = daemon::route_list(settings, "host-1").at(0);
  CHECK(route.mode == sink::RouteMode::merge);
  CHECK(route.on_conflict == sink::OnConflict::dead);
  CHECK(route.key == std::vector<std::string>{"k"});
  CHECK(route.trigger_may_skip);
  CHECK(route.place == "sluice.toml:1");
  CHECK(route.columns.at(0).source == sink::Source::constant);
  CHECK(route.columns.at(0).from == "7");
  CHECK(route.columns.at(0).type == "int");
  CHECK(route.columns.at(0).required);
  CHECK(route.columns.at(0).place == "sluice.toml:8");
}

}  // namespace sluice::config
