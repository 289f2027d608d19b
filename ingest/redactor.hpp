// Replaces the values of an event that must not be kept: a line in, the line without them out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ingest/ingest_counters.hpp"

namespace sluice::ingest {

struct RedactRule {
  enum class Action {
    replace,  // by the text `with`
    hash,     // by a keyed hash of the value, so that equal values stay comparable
  };

  std::string name;  // in metrics
  // A name: the members of that name at any depth, in upper or lower case. Or a JSON pointer
  // ("/data/headers/token"): the value exactly there, where `*` stands for any one member or
  // element.
  std::vector<std::string> fields;
  std::string match;  // the types it applies to, as a route's; empty: all
  Action action = Action::replace;
  std::string with = "[redacted]";
  std::string salt;  // the key of the hashes
};

// Of several rules that hit a value the first counts; of members that share a key each is hit. A
// value that is an object or an array is replaced whole. What is hashed is a string's text, however
// it is spelled, and any other value as it stands in the line.
//
// Thread: one, but for count().
class Redactor final {
 public:
  explicit Redactor(std::vector<RedactRule> rules);
  Redactor(const Redactor&) = delete;
  Redactor& operator=(const Redactor&) = delete;
  ~Redactor();

  // `line` itself if no rule hits; else a text that lives until the next call. It may be longer
  // than the line. REQUIRES: `line` is one JSON object, no deeper than the parser lets pass.
  [[nodiscard]] std::string_view redact(std::string_view line, std::string_view type);

  [[nodiscard]] std::size_t rules() const;
  [[nodiscard]] const std::string& name(std::size_t rule) const;
  // Values that the rule has replaced.
  [[nodiscard]] std::uint64_t count(std::size_t rule) const;

 private:
  class Walk;
  const std::unique_ptr<Walk> walk_;
};

}  // namespace sluice::ingest
