// Types and the patterns of routes.
#include <catch2/catch.hpp>

#include <string>
#include <string_view>
#include <vector>

#include "spool/type_match.hpp"

namespace sluice::spool {

TEST_CASE("type match: the first pattern that fits counts") {
  TypeMatch match({"audit.login", "audit.*", "tool", "*"});
  CHECK(match.find("audit.login") == 0u);
  CHECK(match.find("audit.login.failed") == 1u);
  CHECK(match.find("audit.") == 1u);
  CHECK(match.find("audit") == 3u);
  CHECK(match.find("tool") == 2u);
  CHECK(match.find("tools") == 3u);
  CHECK(match.find("") == 3u);
}

TEST_CASE("type match: without a last resort some types fit nothing") {
  TypeMatch match({"a.*", "b"});
  CHECK_FALSE(match.find(""));
  CHECK_FALSE(match.find("a"));
  CHECK_FALSE(match.find("a"));
  CHECK(match.find("a.x") == 0u);
  CHECK_FALSE(TypeMatch().find("a"));
}

TEST_CASE("type match: a star that is not the last character means itself") {
  TypeMatch match({"a*b", "**"});
  CHECK(match.find("a*b") == 0u);
  CHECK_FALSE(match.find("axb"));
  CHECK(match.find("*x") == 1u);
}

TEST_CASE("type match: more types than it remembers are found all the same") {
  std::vector<std::string> patterns = {"even*", "*"};
  while (patterns.size() < 20)
    patterns.insert(patterns.begin(), "no." + std::to_string(patterns.size()));
  TypeMatch match(patterns);
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < 3'000; ++i) {
      const bool even = i % 2 == 0;
      CHECK(match.find((even ? "even" : "odd") + std::to_string(i)) == (even ? 18u : 19u));
    }
  }
}

TEST_CASE("type match: one of many patterns is found however often it is asked for") {
  std::vector<std::string> patterns;
  for (int i = 0; i < 50; ++i) patterns.push_back("type." + std::to_string(i));
  TypeMatch match(patterns);
  for (const char* type :
       {"type.7", "type.7", "type.49", "type.7", "type.50", "type.50", "type.7"}) {
    const std::string_view number = std::string_view(type).substr(5);
    if (number == "50") {
      CHECK_FALSE(match.find(type));
    } else {
      CHECK(match.find(type) == static_cast<std::size_t>(number == "7" ? 7 : 49));
    }
  }
}

TEST_CASE("type match: a pattern behind one that takes all of its types is never reached") {
  CHECK(covers_pattern("*", "a"));
  CHECK(covers_pattern("*", "a.*"));
  CHECK(covers_pattern("*", "*"));
  CHECK(covers_pattern("a.*", "a.b"));
  CHECK(covers_pattern("a.*", "a.b.*"));
  CHECK(covers_pattern("a", "a"));
  CHECK_FALSE(covers_pattern("a.*", "a"));
  CHECK_FALSE(covers_pattern("a.*", "a*"));
  CHECK_FALSE(covers_pattern("a", "a*"));
  CHECK_FALSE(covers_pattern("a", "b"));
}

}  // namespace sluice::spool
