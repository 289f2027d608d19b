// What a daemon answers, read.
#include "daemon/answer_line.hpp"

#include <catch2/catch.hpp>

using namespace sluice::daemon;

TEST_CASE("answer line: the hello's answer is read") {
  const auto answer = parse_answer(
      R"({"sluice":1,"durability":"power","line_bytes_max":1048576,"dedupe_window_s":600,)"
      R"("instance":"a-1","ack":"durable","have":17})");
  REQUIRE(answer);
  CHECK(answer->sluice == 1);
  CHECK(answer->durability == "power");
  CHECK(answer->stage == "durable");
  CHECK(answer->line_bytes_max == 1048576);
  CHECK(answer->have == 17);
  CHECK_FALSE(answer->ack);
  CHECK(answer->error.empty());
}

TEST_CASE("answer line: acks, nacks and the summary are told apart") {
  CHECK(parse_answer(R"({"ack":12})")->ack == 12);
  const auto nack = parse_answer(R"({ "nack" : 3 , "code" : "full" , "retry" : true })");
  REQUIRE(nack);
  CHECK(nack->nack == 3);
  CHECK(nack->code == "full");
  CHECK(nack->retry);
  CHECK_FALSE(nack->ack);
  CHECK_FALSE(parse_answer(R"({"nack":3,"code":"syntax","retry":false})")->retry);
  CHECK(parse_answer(R"({"nacks_unsent":9})")->nacks_unsent == 9);
  CHECK(parse_answer(R"({"done":5,"stored":4,"duplicate":0,"rejected":1})")->done == 5);
}

TEST_CASE("answer line: members that are not known are skipped, whatever they hold") {
  const auto answer =
      parse_answer(R"({"new":{"ack":1,"t":"},"},"list":[1,{"a":"]"},"x\"y"],"no":null,"ack":2})");
  REQUIRE(answer);
  CHECK(answer->ack == 2);
}

TEST_CASE("answer line: what is no object is none") {
  for (const char* text :
       {"", "ack", "[1]", R"({"ack":1)", R"({"ack")", R"({"ack":"x)", "{,}", R"({"ack":[1})"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_answer(text));
  }
  CHECK(parse_answer("{}"));
}

TEST_CASE("answer line: a hello is one line, whatever the name is") {
  CHECK(hello_line("durable", "a \"b\"", 7) ==
        "{\"sluice\":1,\"ack\":\"durable\",\"producer\":\"a \\\"b\\\"\",\"first\":7}\n");
  const std::string hello = hello_line("durable", "a\nb", 1);
  CHECK(hello.find('\n') == hello.size() - 1);
}
