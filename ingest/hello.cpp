#include "ingest/hello.hpp"

#include <array>
#include <charconv>

namespace sluice::ingest {
namespace {

using spool::ValueKind;

constexpr std::size_t kKeyWithinBytes = 4 * 1024;
constexpr std::size_t kNameBytesMax = 200;
// Every language's numbers hold it, also where all numbers are doubles.
constexpr std::uint64_t kFirstMax = (std::uint64_t{1} << 53) - 1;

constexpr std::string_view kVersionReason =
    R"("sluice" must be 1, the version of the protocol: send {"sluice":1,"ack":"durable"})";
constexpr std::string_view kAckReason =
    R"("ack" must be "durable" or "committed": send {"sluice":1,"ack":"durable"})";
constexpr std::string_view kNameReason = R"("producer" must be a text of 1 to 200 bytes)";
constexpr std::string_view kFirstReason =
    R"(a producer with a name numbers its lines: add "first":K, )"
    R"(the number of the line that follows, from 1 to 9007199254740991)";

bool is_text(const TopMember& member) {
  return member.kind == ValueKind::string || member.kind == ValueKind::escaped_string;
}

std::optional<std::uint64_t> whole_number(const TopMember& member) {
  if (member.kind != ValueKind::number) return std::nullopt;
  const char* const end = member.value.data() + member.value.size();
  std::uint64_t number = 0;
  const auto [stop, error] = std::from_chars(member.value.data(), end, number);
  if (error != std::errc() || stop != end) return std::nullopt;
  return number;
}

// The members that a hello knows, of each the last.
struct HelloMembers {
  const TopMember* sluice = nullptr;
  const TopMember* ack = nullptr;
  const TopMember* producer = nullptr;
  const TopMember* first = nullptr;
};

HelloMembers known_members(std::span<const TopMember> members) {
  HelloMembers known;
  for (const TopMember& member : members) {
    if (member.key == "sluice") known.sluice = &member;
    if (member.key == "ack") known.ack = &member;
    if (member.key == "producer") known.producer = &member;
    if (member.key == "first") known.first = &member;
  }
  return known;
}

std::string quoted(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string json = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20) {
      json += "\\u00";
      json += kHex[byte >> 4];
      json += kHex[byte & 15];
      continue;
    }
    if (c == '"' || c == '\\') json += '\\';
    json += c;
  }
  return json + '"';
}

}  // namespace

FirstLine read_first_line(std::string_view line, EventParser& parser) {
  // Nearly every first line is an event, and costs no more than this.
  if (line.substr(0, kKeyWithinBytes).find("\"sluice\"") == std::string_view::npos) {
    return NoHello{};
  }
  const auto members = parser.members(line);
  if (!members) return NoHello{};
  const HelloMembers known = known_members(*members);
  if (known.sluice == nullptr) return NoHello{};
  if (whole_number(*known.sluice) != 1) return WrongHello{kVersionReason};

  Hello hello;
  if (known.ack != nullptr) {
    const std::string_view stage = is_text(*known.ack) ? known.ack->value : "";
    if (stage != "durable" && stage != "committed") return WrongHello{kAckReason};
    hello.stage = stage == "durable" ? AckStage::durable : AckStage::committed;
  }
  if (known.producer != nullptr) {
    const bool fits = is_text(*known.producer) && !known.producer->value.empty() &&
                      known.producer->value.size() <= kNameBytesMax;
    if (!fits) return WrongHello{kNameReason};
    const auto first = known.first != nullptr ? whole_number(*known.first) : std::nullopt;
    if (!first || *first < 1 || *first > kFirstMax) return WrongHello{kFirstReason};
    hello.producer = known.producer->value;
    hello.first = *first;
  }
  return hello;
}

std::string hello_answer(const HelloFacts& facts, std::size_t line_bytes_max, AckStage in_force,
                         std::optional<std::uint64_t> have) {
  std::string line = "{\"sluice\":1,\"durability\":" + quoted(facts.durability) +
                     ",\"line_bytes_max\":" + std::to_string(line_bytes_max) +
                     ",\"dedupe_window_s\":" + std::to_string(facts.dedupe_window.count()) +
                     ",\"instance\":" + quoted(facts.instance) + ",\"ack\":" +
                     (in_force == AckStage::durable ? "\"durable\"" : "\"committed\"");
  if (have) line += ",\"have\":" + std::to_string(*have);
  return line + "}\n";
}

std::string wrong_hello_answer(std::string_view reason) {
  return "{\"sluice\":1,\"error\":" + quoted(reason) + "}\n";
}

}  // namespace sluice::ingest
