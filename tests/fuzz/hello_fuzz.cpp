// What daemon and producer say to each other: a first line is the hello that a plain reading finds
// in it, and what either side writes the other reads as it was meant.
//
// Input: which of the functions; then a line, or the parts of one.
#include <optional>
#include <string>

#include "daemon/answer_line.hpp"
#include "daemon/printable.hpp"
#include "ingest/hello.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/fuzz/json_tree.hpp"

namespace sluice::fuzz {
namespace {

using ingest::AckStage;
using ingest::FirstLine;
using ingest::Hello;

constexpr std::uint64_t kFirstMax = 9'007'199'254'740'991;

FirstLine first_line(std::string_view line) {
  ingest::IngestCounters counters;
  ingest::EventParser parser({}, counters);
  return ingest::read_first_line(line, parser);
}

std::optional<std::uint64_t> whole_number(const JsonTree* tree) {
  if (tree == nullptr || tree->kind != JsonTree::Kind::number) return std::nullopt;
  if (tree->text.size() > 19 || tree->text.find_first_not_of("0123456789") != std::string::npos) {
    return std::nullopt;
  }
  return std::stoull(tree->text);
}

// None: the hello is wrong. REQUIRES: it has the member "sluice".
std::optional<Hello> plain_hello(const JsonTree& object) {
  if (whole_number(object.find("sluice")) != 1) return std::nullopt;
  Hello hello;
  if (const JsonTree* const ack = object.find("ack")) {
    if (ack->kind != JsonTree::Kind::string) return std::nullopt;
    if (ack->text != "durable" && ack->text != "committed") return std::nullopt;
    hello.stage = ack->text == "durable" ? AckStage::durable : AckStage::committed;
  }
  const JsonTree* const producer = object.find("producer");
  if (producer == nullptr) return hello;
  const auto first = whole_number(object.find("first"));
  if (producer->kind != JsonTree::Kind::string || producer->text.empty() ||
      producer->text.size() > 200 || !first || *first < 1 || *first > kFirstMax) {
    return std::nullopt;
  }
  hello.producer = producer->text;
  hello.first = *first;
  return hello;
}

bool is_same(const Hello& a, const Hello& b) {
  return a.stage == b.stage && a.producer == b.producer && a.first == b.first;
}

void check_first_line(std::string_view line) {
  const FirstLine found = first_line(line);
  TextSeen seen;
  const auto tree = read_json(line, {}, seen);
  const bool is_far = line.substr(0, 4096).find("\"sluice\"") == std::string_view::npos;
  if (is_far || !tree || tree->find("sluice") == nullptr) {
    must(std::holds_alternative<ingest::NoHello>(found), "an event is no hello");
    return;
  }
  if (seen.depth > 64 || line.size() > 1000) return;  // the parser's limits
  if (std::holds_alternative<ingest::NoHello>(found)) {
    must(line.find_first_of("eE") != std::string_view::npos, "a hello is seen as one");
    return;  // a number out of range
  }
  const auto hello = plain_hello(*tree);
  const auto* const taken = std::get_if<Hello>(&found);
  must((taken != nullptr) == hello.has_value(), "a hello is taken if it is right");
  if (taken != nullptr) must(is_same(*taken, *hello), "a hello is what the line says");
}

void check_number(const JsonTree& object, const char* name,
                  const std::optional<std::uint64_t>& found) {
  const JsonTree* const member = object.find(name);
  if (const auto number = whole_number(member)) {
    must(found == number, "an answer's number is what the line says");
  } else if (member == nullptr) {
    must(!found.has_value(), "a number that is not there is not found");
  }
}

void check_answer(std::string_view line) {
  const auto answer = daemon::parse_answer(line);
  TextSeen seen;
  const auto tree = read_json(line, {}, seen);
  if (!tree || tree->kind != JsonTree::Kind::object) return;
  must(answer.has_value(), "a JSON object is an answer");
  // Keys are taken as they stand there, and a name may come as a text and as a number.
  if (line.find('\\') != std::string_view::npos) return;
  for (const auto& [name, value] : tree->members) {
    if (tree->find(name) != &value) return;
  }
  check_number(*tree, "sluice", answer->sluice);
  check_number(*tree, "line_bytes_max", answer->line_bytes_max);
  check_number(*tree, "have", answer->have);
  check_number(*tree, "ack", answer->ack);
  check_number(*tree, "nack", answer->nack);
  check_number(*tree, "nacks_unsent", answer->nacks_unsent);
  check_number(*tree, "done", answer->done);
  const JsonTree* const code = tree->find("code");
  const bool has_code = code != nullptr && code->kind == JsonTree::Kind::string;
  must(answer->code == (has_code ? code->text : ""), "an answer's code is what the line says");
}

// The producer's hello, read by the daemon.
void check_hello_line(Input input) {
  const std::uint64_t first = 1 + input.byte() * 256 + input.byte();
  const bool is_durable = input.byte() % 2 == 0;
  const std::string name(input.rest().substr(0, 300));
  std::string line = daemon::hello_line(is_durable ? "durable" : "committed", name, first);
  must(line.find('\n') == line.size() - 1, "a hello is one line");
  line.pop_back();
  const FirstLine found = first_line(line);
  const std::string sent = daemon::printable(name);
  const bool fits = !sent.empty() && sent.size() <= 200;
  const auto* const hello = std::get_if<Hello>(&found);
  must((hello != nullptr) == fits, "a hello is taken if its name fits");
  if (hello == nullptr) return;
  const auto stage = is_durable ? AckStage::durable : AckStage::committed;
  must(is_same(*hello, {stage, sent, first}), "a hello is read as it was meant");
}

// The daemon's answer, read by the producer.
void check_hello_answer(Input input) {
  ingest::HelloFacts facts;
  const std::uint64_t number = input.byte() * 256 + input.byte();
  const bool is_durable = input.byte() % 2 == 0;
  facts.durability = is_durable ? "power" : "memory";
  facts.instance = input.rest();
  const auto stage = facts.in_force(AckStage::durable);
  const auto have = number % 3 == 0 ? std::nullopt : std::optional(number);
  const std::string line = ingest::hello_answer(facts, number, stage, have);
  must(line.find('\n') == line.size() - 1, "an answer is one line");
  TextSeen seen;
  const auto tree = read_json(line, {}, seen);
  must(tree && tree->find("instance")->text == facts.instance, "an answer is JSON");
  const auto answer = daemon::parse_answer(line);
  must(answer && answer->sluice == 1 && answer->durability == facts.durability &&
           answer->stage == (is_durable ? "durable" : "committed") &&
           answer->line_bytes_max == number && answer->have == have && answer->error.empty(),
       "an answer is read as it was meant");
}

}  // namespace
}  // namespace sluice::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  sluice::fuzz::Input input(data, size);
  const unsigned which = input.byte();
  const sluice::fuzz::ExactBytes line(input.rest());
  switch (which % 4) {
    case 0:
      // The splitter hands on no blank line, and none with an LF.
      if (line.view().find_first_not_of(" \t") == std::string_view::npos) break;
      if (line.view().find('\n') != std::string_view::npos) break;
      sluice::fuzz::check_first_line(line.view());
      break;
    case 1:
      sluice::fuzz::check_answer(line.view());
      break;
    case 2:
      sluice::fuzz::check_hello_line(input);
      break;
    default:
      sluice::fuzz::check_hello_answer(input);
  }
  return 0;
}
