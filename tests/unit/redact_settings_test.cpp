// [[redact]] in the configuration, and the redactor that ingest gets of it.
#include <catch2/catch.hpp>

#include <string>
#include <string_view>
#include <vector>

#include "config/loader.hpp"
#include "daemon/redaction.hpp"

namespace sluice::config {
namespace {

Settings load_file(std::string_view toml) {
  return load_text(toml, "sluice.toml", {});
}

std::string problem_of(std::string_view toml) {
  try {
    static_cast<void>(load_file(toml));
  } catch (const LoadError& error) {
    REQUIRE(error.problems().size() == 1);
    return error.problems().front();
  }
  return "none";
}

// A rule whose second line is this one.
std::string rule_with(std::string_view line) {
  return "[[redact]]\n" + std::string(line) + "\nfields = [\"password\"]\n";
}

}  // namespace

TEST_CASE("redact settings: each key is read, and a rule without a name has its number") {
  const Settings settings = load_file(
      "[[redact]]\nfields = [\"a\", \"/b/*\"]\n"
      "[[redact]]\nname = \"mail\"\nfields = [\"email\"]\naction = \"hash\"\nsalt_file = \"/s\"\n"
      "match = \"user.*\"\n");
  REQUIRE(settings.redactions.size() == 2);
  CHECK(settings.redactions[0].name == "1");
  CHECK(settings.redactions[0].fields == std::vector<std::string>{"a", "/b/*"});
  CHECK(settings.redactions[0].with == "[redacted]");
  CHECK(settings.redactions[1].name == "mail");
  CHECK(settings.redactions[1].action == "hash");
  CHECK(settings.redactions[1].salt_file == "/s");
  CHECK(settings.redactions[1].match == "user.*");
  CHECK(settings.redactions[1].place == "sluice.toml:3");
}

TEST_CASE("redact settings: what is wrong is told with its line") {
  CHECK(problem_of("[[redact]]\n") == "sluice.toml:1: a [[redact]] needs fields");
  CHECK(problem_of("[redact]\nfields = [\"a\"]\n") ==
        "sluice.toml:1: what is redacted is written as [[redact]]");
  CHECK(problem_of("[[redact]]\nfields = \"a\"\n") ==
        "sluice.toml:2: redact.fields must be a list such as [\"password\", \"/data/token\"]");
  CHECK(problem_of("[[redact]]\nfields = [\"/a~b\"]\n") ==
        "sluice.toml:2: \"/a~b\" is no JSON pointer: write ~ as ~0");
  for (const std::string field : {"pass*", "*", "/data/tok*", "/*/*s", "x/*"}) {
    CHECK(problem_of("[[redact]]\nfields = [\"" + field + "\"]\n") ==
          "sluice.toml:2: \"" + field +
              "\" has a * that is not a whole part: it stands for any "
              "member in a JSON pointer, such as \"/data/*\"");
  }
  CHECK(problem_of("[[redact]]\nfields = [\"/data/*/*\", \"/headers/*\"]\n") == "none");
  CHECK(problem_of(rule_with("match = \"*.login\"")) ==
        "sluice.toml:2: redact.match has a * that is not its end");
  CHECK(problem_of(rule_with("acton = \"hash\"")) ==
        "sluice.toml:2: redact.acton is not a setting; did you mean action?");
  CHECK(problem_of(rule_with("action = \"remove\"")) ==
        "sluice.toml:2: redact.action must be \"replace\" or \"hash\"");
  CHECK(problem_of(rule_with("action = \"hash\"")) ==
        "sluice.toml:1: a [[redact]] with action = \"hash\" needs salt_file");
  CHECK(problem_of(rule_with("salt_file = \"/s\"")) ==
        "sluice.toml:1: redact.salt_file has no meaning without action = \"hash\"");
  CHECK(problem_of(rule_with("name = \"a b\"")) ==
        "sluice.toml:2: redact.name has other characters than letters, digits, - _ and .");
  CHECK(problem_of(rule_with("name = \"a\"") + rule_with("name = \"a\"")) ==
        "sluice.toml:4: there is another [[redact]] with the name a (sluice.toml:1)");
}

TEST_CASE("redact settings: a key or an id is not replaced by one text for all events") {
  for (const char* const field : {"dedupe_key", "Dedupe_Key", "/dedupe_key", "/*", "id", "/id"}) {
    CHECK(problem_of("[[redact]]\nfields = [\"" + std::string(field) + "\"]\n")
              .starts_with("sluice.toml:1: redact.fields takes in dedupe_key"));
  }
  CHECK(problem_of("[[redact]]\nfields = [\"dedupe_key\"]\naction = \"hash\"\n"
                   "salt_file = \"/s\"\n") == "none");
  CHECK(problem_of("[[redact]]\nfields = [\"/data/dedupe_key\", \"/data/id\"]\n") == "none");
}

TEST_CASE("redact settings: a salt file that cannot be used is an error that names it") {
  const Settings settings = load_file(
      "[[redact]]\nfields = [\"email\"]\naction = \"hash\"\nsalt_file = \"/nowhere/salt\"\n");
  CHECK_THROWS_WITH(daemon::make_redactor(settings),
                    "sluice.toml:1: redact.salt_file /nowhere/salt cannot be read: No such file or "
                    "directory");
  CHECK(daemon::make_redactor(load_file("")) == nullptr);
}

}  // namespace sluice::config
