// The hello: what a first line asks for, and what answers it.
#include "ingest/hello.hpp"

#include <catch2/catch.hpp>
#include <fstream>
#include <iterator>
#include <string>

namespace ingest = sluice::ingest;
using ingest::AckStage;
using ingest::Hello;
using ingest::NoHello;
using ingest::WrongHello;

namespace {

struct Reader {
  ingest::FirstLine operator()(const std::string& line) {
    return ingest::read_first_line(line, parser);
  }
  // The reason why the hello is wrong; empty if it is not.
  std::string reason(const std::string& line) {
    const auto first = (*this)(line);
    const auto* wrong = std::get_if<WrongHello>(&first);
    return wrong != nullptr ? std::string(wrong->reason) : "";
  }

  ingest::IngestCounters counters;
  ingest::EventParser parser{{}, counters};
};

}  // namespace

TEST_CASE("hello: it says which acks are asked for, durable ones by default") {
  Reader read;
  CHECK(std::get<Hello>(read(R"({"sluice":1})")).stage == AckStage::durable);
  CHECK(std::get<Hello>(read(R"({"sluice":1,"ack":"durable"})")).stage == AckStage::durable);
  CHECK(std::get<Hello>(read(R"( { "ack" : "committed" , "sluice" : 1 } )")).stage ==
        AckStage::committed);
  CHECK(std::get<Hello>(read(R"({"sluice":1})")).producer.empty());
}

TEST_CASE("hello: a producer may name itself and say the number of its next line") {
  Reader read;
  const auto hello =
      std::get<Hello>(read(R"({"sluice":1,"producer":"b\u00fcilder-7","first":9007199254740991})"));
  CHECK(hello.producer == "büilder-7");
  CHECK(hello.first == 9007199254740991);
  CHECK(std::get<Hello>(
            read(R"({"sluice":1,"producer":")" + std::string(200, 'x') + R"(","first":1})"))
            .producer.size() == 200);
}

TEST_CASE("hello: unknown keys are ignored, and of a key that is there twice the last counts") {
  Reader read;
  const auto hello = std::get<Hello>(read(
      R"({"x":{"ack":"no"},"ack":"durable","sluice":2,"first":0,"sluice":1,"ack":"committed"})"));
  CHECK(hello.stage == AckStage::committed);
}

TEST_CASE("hello: an event is none, whatever it says about sluice") {
  Reader read;
  for (const char* line : {R"({"n":1})", R"({"type":"sluice"})", R"({"type":"\"sluice\""})",
                           R"({"data":{"sluice":1}})", R"(["sluice"])", R"("sluice")",
                           R"({"sluice":1,)", R"({"sluice":1} x)", R"({"text":"\"sluice\":1"})"}) {
    CAPTURE(line);
    CHECK(std::holds_alternative<NoHello>(read(line)));
  }
}

TEST_CASE("hello: the key is looked for in the first 4 KiB") {
  Reader read;
  const auto line = [](std::size_t padding) {
    return R"({"p":")" + std::string(padding, 'x') + R"(","sluice":1})";
  };
  CHECK(std::holds_alternative<Hello>(read(line(4000))));
  CHECK(std::holds_alternative<NoHello>(read(line(4096))));
}

TEST_CASE("hello: what is wrong is said with the way to do it right") {
  Reader read;
  using Catch::Matchers::Contains;
  for (const char* version : {"2", "\"1\"", "1.0", "null", "-1", "{}", "true"}) {
    CHECK_THAT(read.reason("{\"sluice\":" + std::string(version) + "}"),
               Contains(R"(send {"sluice":1,"ack":"durable"})"));
  }
  for (const char* ack : {"\"yes\"", "true", "null", "\"\""}) {
    CHECK_THAT(read.reason(R"({"sluice":1,"ack":)" + std::string(ack) + "}"),
               Contains(R"("durable" or "committed")"));
  }
  for (const std::string& name : {std::string("\"\""), "\"" + std::string(201, 'x') + "\"",
                                  std::string("7"), std::string("null")}) {
    CHECK_THAT(read.reason(R"({"sluice":1,"first":1,"producer":)" + name + "}"),
               Contains("1 to 200 bytes"));
  }
  for (const char* first :
       {"", R"(,"first":0)", R"(,"first":-1)", R"(,"first":"1")", R"(,"first":1.5)",
        R"(,"first":9007199254740992)", R"(,"first":99999999999999999999)"}) {
    CHECK_THAT(read.reason(R"({"sluice":1,"producer":"p")" + std::string(first) + "}"),
               Contains(R"("first":K)"));
  }
}

TEST_CASE("hello: the answer names what is in force") {
  ingest::HelloFacts facts{"power", std::chrono::seconds(600), "host \"a\"\n"};
  CHECK(ingest::hello_answer(facts, 1048576, AckStage::durable, std::nullopt) ==
        R"({"sluice":1,"durability":"power","line_bytes_max":1048576,"dedupe_window_s":600,)"
        R"("instance":"host \"a\"\u000a","ack":"durable"})"
        "\n");
  CHECK(ingest::hello_answer(facts, 100, AckStage::committed, 42) ==
        R"({"sluice":1,"durability":"power","line_bytes_max":100,"dedupe_window_s":600,)"
        R"("instance":"host \"a\"\u000a","ack":"committed","have":42})"
        "\n");
  CHECK(ingest::wrong_hello_answer("say \"x\"") == R"({"sluice":1,"error":"say \"x\""})"
                                                   "\n");
}

TEST_CASE("hello: without a spool on disk a durable ack is given as a committed one") {
  ingest::HelloFacts facts;
  CHECK(facts.in_force(AckStage::durable) == AckStage::committed);
  facts.durability = "process";
  CHECK(facts.in_force(AckStage::durable) == AckStage::durable);
  CHECK(facts.in_force(AckStage::committed) == AckStage::committed);
}

TEST_CASE("producer key: another user's name, or another name, is another producer") {
  ingest::IngestCounters counters;
  ingest::ParserOptions options;
  options.dedupe_seed = 7;
  options.dedupe_by_uid = false;
  const ingest::EventParser parser(options, counters);
  const auto key = parser.producer_key("builder", 1000);
  CHECK(key == parser.producer_key("builder", 1000));
  CHECK_FALSE(key == parser.producer_key("builder", 1001));
  CHECK_FALSE(key == parser.producer_key("builde", 1000));
  options.dedupe_seed = 8;
  CHECK_FALSE(key == ingest::EventParser(options, counters).producer_key("builder", 1000));
}

TEST_CASE("protocol: its page names every code of a refusal, and whether to try again") {
  std::ifstream page(SLUICE_SOURCE_DIR "/docs/protocol.md");
  const std::string text{std::istreambuf_iterator<char>(page), {}};
  for (std::size_t i = 0; i < ingest::kRefusalCount; ++i) {
    const auto refusal = static_cast<ingest::Refusal>(i);
    const std::string row = "| `" + std::string(ingest::refusal_code(refusal)) + "` | " +
                            (ingest::may_pass_later(refusal) ? "true" : "false") + " |";
    CAPTURE(row);
    CHECK(text.find(row) != std::string::npos);
  }
}
