// The event between ingest and sink: the line as it came plus what is needed to build its row
// without parsing it again, as one flat run of bytes.
//
//   record := RecordHeader  FieldSpan * field_count  text  padding to 8 bytes
//   text   := the line as it came (line_bytes), then text of the daemon's own (tail_bytes)
//
// Integers are little-endian: the spool's files hold records just as they are in memory.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "spool/uuid.hpp"

namespace sluice::spool {

// What a span of an event's text is. A field that is missing has no span.
enum class Field : std::uint8_t {
  type,
  source,
  session_id,
  parent_id,
  dedupe_key,
  data,
  // One run of members for the `extra` object, without its braces: `"key":value[,"key":value]*`.
  // There may be several; joined with commas they are the object's content.
  extra,
  // The producer's `id` member, as a run like `extra`: it becomes one if the journal finds that the
  // id was used for another event.
  id_member,
};

enum class ValueKind : std::uint8_t {
  string,          // in its quotes, with no backslash: the text between is the value
  escaped_string,  // in its quotes, with escapes to decode
  number,
  boolean,
  null,
  object,
  array,
  members,  // of Field::extra and Field::id_member
};

// Where a field's raw JSON stands in the record's text. 24 bits hold the largest line (16 MiB - 1).
struct FieldSpan {
  std::uint32_t begin : 24;
  std::uint32_t field : 8;
  std::uint32_t length : 24;
  std::uint32_t kind : 8;
};
static_assert(sizeof(FieldSpan) == 8);

inline constexpr std::size_t kTextBytesMax = (1u << 24) - 1;

// What has to be mended in the text before Postgres can store it (see sink/json_text.hpp).
enum RecordFlag : std::uint8_t {
  kReplaceNul = 1,     // `\u0000` becomes U+FFFD
  kStripNul = 2,       // `\u0000` is left out
  kReplaceText = 4,    // invalid UTF-8 and lone surrogates become U+FFFD
  kHasId = 8,          // `id` is the producer's; otherwise the journal gives one
  kHasDedupeKey = 16,  // `dedupe_hash` is of the producer's dedupe_key
  kHasIdKey = 32,  // `dedupe_hash` is of the producer's id (first half) and the line (second half)
};

struct RecordHeader {
  std::uint32_t record_bytes;  // of the whole record, a multiple of 8
  std::uint32_t line_bytes;
  std::uint32_t tail_bytes;
  std::uint32_t uid;         // of the producer; kNoUid over TCP
  std::int64_t received_us;  // microseconds since the Unix epoch
  std::int64_t occurred_us;  // the same; the time of receipt if the event has none
  Uuid id;
  std::uint64_t dedupe_hash[2];
  std::uint16_t route;        // index of the route
  std::uint16_t field_count;  // up to 1,000 top-level members make up to as many runs
  std::uint8_t flags;         // RecordFlag
  std::uint8_t
      line_delta[3];  // how many lines after its chunk's first this one came, see line_delta()
};
static_assert(sizeof(RecordHeader) == 72);
static_assert(std::endian::native == std::endian::little, "the spool's files are little-endian");

inline constexpr std::uint32_t kLineDeltaMax = (1u << 24) - 1;

[[nodiscard]] constexpr std::uint32_t line_delta(const RecordHeader& header) {
  return header.line_delta[0] | std::uint32_t{header.line_delta[1]} << 8 |
         std::uint32_t{header.line_delta[2]} << 16;
}
// REQUIRES: delta <= kLineDeltaMax
constexpr void set_line_delta(RecordHeader& header, std::uint32_t delta) {
  header.line_delta[0] = static_cast<std::uint8_t>(delta);
  header.line_delta[1] = static_cast<std::uint8_t>(delta >> 8);
  header.line_delta[2] = static_cast<std::uint8_t>(delta >> 16);
}

inline constexpr std::uint32_t kNoUid = 0xffffffff;

// A borrowed look at one record. Valid as long as the chunk that holds it.
class EventView {
 public:
  // REQUIRES: `record` points to a whole record, 8-byte aligned.
  explicit EventView(const std::byte* record) : record_(record) {}

  [[nodiscard]] const RecordHeader& header() const {
    return *reinterpret_cast<const RecordHeader*>(record_);
  }
  [[nodiscard]] std::span<const FieldSpan> fields() const {
    return {reinterpret_cast<const FieldSpan*>(record_ + sizeof(RecordHeader)),
            header().field_count};
  }
  [[nodiscard]] std::string_view line() const { return {text_begin(), header().line_bytes}; }
  [[nodiscard]] std::string_view text(const FieldSpan& span) const {
    return {text_begin() + span.begin, span.length};
  }
  [[nodiscard]] const std::byte* bytes() const { return record_; }

 private:
  [[nodiscard]] const char* text_begin() const {
    return reinterpret_cast<const char*>(record_ + sizeof(RecordHeader) +
                                         sizeof(FieldSpan) * header().field_count);
  }

  const std::byte* record_;
};

// The bytes that a record with these parts takes.
[[nodiscard]] constexpr std::size_t record_bytes(std::size_t field_count, std::size_t text_bytes) {
  return (sizeof(RecordHeader) + sizeof(FieldSpan) * field_count + text_bytes + 7) &
         ~std::size_t{7};
}

}  // namespace sluice::spool
