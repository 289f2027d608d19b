// What a route asks of its events before they are accepted, and the dedupe key that it computes for
// those without one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spool/type_match.hpp"

namespace sluice::ingest {

// A field of the event: the name of a top-level member, "time" for any of time_fields, or a JSON
// pointer.
struct KeyPart {
  std::string from;
  std::size_t characters_max = 0;  // of its text; 0: all of them
};

struct RouteRule {
  std::string match;                  // as spool::TypeMatch has it
  std::vector<std::string> required;  // top-level members that each event must have
  std::vector<KeyPart> dedupe;        // empty: no key is computed
  std::string dedupe_if;              // a key is computed only where this is there; empty: always
  // A column takes the key: then it is written into the event's record, where the column finds it
  // as if the producer had sent it.
  bool stores_key = false;
};

// The rules of all routes, made ready for looking at events.
//
// Thread: one.
class RouteRules final {
 public:
  struct Value {
    std::vector<std::string> names;   // of top-level members: the first that is there
    std::vector<std::string> tokens;  // from there on, as a JSON pointer; empty: the member itself
    std::size_t characters_max = 0;
  };
  struct Key {
    std::vector<Value> parts;
    std::optional<Value> condition;
    // Sets the hashes of one route's keys apart from those of others. The same in the next run.
    std::uint64_t domain = 0;
  };

  RouteRules(const std::vector<RouteRule>& rules, const std::vector<std::string>& time_fields);

  // The route of a type; none: no route matches.
  [[nodiscard]] std::optional<std::size_t> find(std::string_view type) { return match_.find(type); }
  [[nodiscard]] const Key& key(std::size_t route) const { return keys_[route]; }

 private:
  spool::TypeMatch match_;
  std::vector<Key> keys_;
};

// Collects the values of a key. Keeps its buffers.
//
// Thread: one.
class ComputedKey final {
 public:
  void clear();
  // None: the event does not have it.
  void add(std::optional<std::string_view> text, std::size_t characters_max);

  // Without any value there is no key: all events without them would have the same.
  [[nodiscard]] bool has_values() const { return has_values_; }
  // What tells two keys apart for the window: the values with their lengths, so that "a|b" and "c"
  // is another key than "a" and "b|c". Lives until the next call.
  [[nodiscard]] std::string_view bytes();
  // The first 32 hex digits of SHA-256 over the values joined by `|`; of a missing one nothing.
  [[nodiscard]] std::string digits() const;

 private:
  std::string joined_;
  std::string lengths_;
  std::string bytes_;
  bool has_values_ = false;
};

}  // namespace sluice::ingest
