// Events and the routes that their types choose.
#include <catch2/catch.hpp>

#include <vector>

#include "sink/route_choice.hpp"
#include "tests/support/record_builder.hpp"

namespace sluice::sink {
namespace {

using spool::Field;
using test::RecordBuilder;
using test::SingleRecord;

std::optional<std::size_t> chosen(RouteChoice& choice, std::string_view type_literal,
                                  unsigned flags = 0) {
  const SingleRecord record(RecordBuilder().string(Field::type, type_literal).flags(flags));
  return choice.of(record.view());
}

}  // namespace

TEST_CASE("route choice: the first route that takes the event's type is its route") {
  const std::vector<Route> routes = {{.match = "a.*"}, {.match = "b"}, {.match = "*"}};
  RouteChoice choice(routes);
  CHECK(chosen(choice, R"("a.x")") == 0u);
  CHECK(chosen(choice, R"("b")") == 1u);
  CHECK(chosen(choice, R"("b.x")") == 2u);
}

TEST_CASE("route choice: a type is compared as the text that it stands for") {
  const std::vector<Route> routes = {{.match = "a\xC3\xA4"}, {.match = "b\xEF\xBF\xBD"}};
  RouteChoice choice(routes);
  CHECK(chosen(choice, R"("\u0061\u00e4")") == 0u);
  CHECK(chosen(choice, "\"b\xFF\"", spool::kReplaceText) == 1u);
  CHECK_FALSE(chosen(choice, R"("c")"));
}

TEST_CASE("route choice: a first route for everything takes what has no type too") {
  const std::vector<Route> routes = {{.match = "*"}};
  RouteChoice choice(routes);
  const SingleRecord record{RecordBuilder()};
  CHECK(choice.of(record.view()) == 0u);
}

}  // namespace sluice::sink
