// Turns one line into an event record, or says why not.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ingest/ingest_counters.hpp"
#include "ingest/redactor.hpp"
#include "ingest/refusal.hpp"
#include "ingest/route_rule.hpp"
#include "spool/chunk.hpp"
#include "spool/producer_table.hpp"
#include "spool/timestamp.hpp"

namespace sluice::ingest {

enum class NulPolicy { replace, strip, reject };
enum class TextPolicy { replace, reject };
enum class MisfitPolicy { keep, reject };
enum class DuplicateKeyPolicy { last, reject };

// Beyond these a line is refused; a time outside its range is a misfit.
struct ParserLimits {
  unsigned depth_max = 64;       // at most 256: the parser recurses
  std::size_t keys_max = 1'000;  // of one object; at most 4,000
  std::size_t key_bytes_max = 1'024;
  int exponent_max = 308;  // of a number; at most this
  spool::TimeRange times = spool::kEventTimes;
  spool::Zone zone = spool::Zone::required;  // of an event's time
};

struct ParserOptions {
  NulPolicy nul = NulPolicy::replace;
  TextPolicy text = TextPolicy::replace;
  MisfitPolicy misfit = MisfitPolicy::keep;
  DuplicateKeyPolicy duplicate_keys = DuplicateKeyPolicy::last;
  std::string default_type = "log";  // empty: `type` is required
  std::vector<std::string> time_fields = {"time", "timestamp", "@timestamp", "ts"};
  bool dedupe_by_uid = true;      // false: keys of all producers are one space
  std::uint64_t dedupe_seed = 0;  // of the keyed hashes: random, and kept secret
  // The routes' own wishes, in their order; empty: every event has a route that asks for nothing.
  std::vector<RouteRule> routes = {};
  ParserLimits limits = {};
  Redactor* redactor = nullptr;  // outlives the parser; none: all is kept
};

// Where and when a line came in.
struct Receipt {
  std::int64_t received_us = 0;  // since the Unix epoch
  std::uint32_t uid = spool::kNoUid;
  std::uint32_t line_delta = 0;  // how many lines after its chunk's first it came
};

// A member of a line's object.
struct TopMember {
  std::string_view key;
  spool::ValueKind kind = spool::ValueKind::null;
  std::string_view value;  // of a string its text, decoded; otherwise as it stands in the line
};

// Keeps its buffers from line to line, so that a usual event costs no allocation.
//
// Thread: one.
class EventParser final {
 public:
  // REQUIRES: `counters` outlives the parser.
  EventParser(ParserOptions options, IngestCounters& counters);
  EventParser(const EventParser&) = delete;
  EventParser& operator=(const EventParser&) = delete;
  ~EventParser();

  // Appends the record of the line, redacted, to `chunk`, or returns the reason for refusing it and
  // appends nothing. `line` has no newline and is neither empty nor blank. REQUIRES: line.size() <=
  // 16 MiB
  // - 1 KiB
  [[nodiscard]] std::optional<Refusal> parse(std::string_view line, const Receipt& receipt,
                                             spool::Chunk& chunk);

  // Which field the last refusal is about, for `schema` and `misfit`; else empty. A name that this
  // program or its configuration has.
  [[nodiscard]] std::string_view refused_field() const;

  // What may be kept of the line that parse() was given last: the line without what had to be
  // redacted; empty where it was refused before that could be found. Lives until the next call and
  // as long as that line.
  [[nodiscard]] std::string_view kept_line() const;
  // Whether there are rules, so that nothing may be kept of a line that was not parsed.
  [[nodiscard]] bool redacts() const;

  // The members of the line's object in their order; none where parse() would refuse the line as
  // JSON. They live until the next call and as long as `line`. REQUIRES: as parse().
  [[nodiscard]] std::optional<std::span<const TopMember>> members(std::string_view line);

  // The keyed hash by which a producer that named itself is known. Names of different users are
  // different producers.
  [[nodiscard]] spool::ProducerKey producer_key(std::string_view name, std::uint32_t uid) const;

 private:
  class Document;
  std::unique_ptr<Document> document_;
};

}  // namespace sluice::ingest
