// One line that the daemon writes to a producer that asked for acks: the hello's answer, an ack, a
// nack or the closing summary, as its members.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::daemon {

// Members that the line does not have are empty. See docs/producers.md for what they mean.
struct AnswerLine {
  std::optional<std::uint64_t> sluice;  // version of the protocol: only the hello's answer has it
  std::string error;                    // why the hello was refused
  std::string durability;
  std::string stage;  // "ack" of the hello's answer: what an ack means
  std::optional<std::uint64_t> line_bytes_max;
  std::optional<std::uint64_t> have;

  std::optional<std::uint64_t> ack;
  std::optional<std::uint64_t> nack;
  std::string code;
  bool retry = false;
  std::optional<std::uint64_t> nacks_unsent;
  std::optional<std::uint64_t> done;
};

// None if the line is not a JSON object. Members that are not known are skipped, whatever their
// value is, so that a later daemon may say more.
[[nodiscard]] std::optional<AnswerLine> parse_answer(std::string_view line);

// A hello that asks for acks of that stage for lines that the producer numbers from `first`.
[[nodiscard]] std::string hello_line(std::string_view stage, std::string_view producer,
                                     std::uint64_t first);

}  // namespace sluice::daemon
