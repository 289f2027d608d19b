// The hello: the first line of a connection whose producer asks for acks, and the line that answers
// it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "ingest/ack_ledger.hpp"
#include "ingest/event_parser.hpp"

namespace sluice::ingest {

// What a producer asked for.
struct Hello {
  AckStage stage = AckStage::durable;
  std::string producer;     // its name; empty: it gave none, and its lines have no numbers
  std::uint64_t first = 1;  // the producer's own number of the line that follows
};
struct NoHello {};  // an event, or something that is to be refused as one
struct WrongHello {
  std::string_view reason;  // for people, constant text: what is wrong and how to do it right
};
using FirstLine = std::variant<NoHello, WrongHello, Hello>;

// A hello is a JSON object with a top-level key "sluice" in its first 4 KiB.
[[nodiscard]] FirstLine read_first_line(std::string_view line, EventParser& parser);

// What the daemon says of itself.
struct HelloFacts {
  std::string durability = "memory";  // "power", "process" or "memory": then no ack is durable
  std::chrono::seconds dedupe_window{0};
  std::string instance;

  [[nodiscard]] bool is_durable() const { return durability != "memory"; }
  // The stage that an ack means when this one was asked for.
  [[nodiscard]] AckStage in_force(AckStage asked) const {
    return is_durable() ? asked : AckStage::committed;
  }
};

// `have`: of a named producer, the last of its lines that is durable. All with their newline.
[[nodiscard]] std::string hello_answer(const HelloFacts& facts, std::size_t line_bytes_max,
                                       AckStage in_force, std::optional<std::uint64_t> have);
[[nodiscard]] std::string wrong_hello_answer(std::string_view reason);

}  // namespace sluice::ingest
