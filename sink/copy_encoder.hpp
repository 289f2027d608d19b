// Event records in, rows of one of Postgres's COPY formats out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "sink/column_value.hpp"
#include "sink/copy_buffer.hpp"
#include "sink/database.hpp"
#include "sink/extra_members.hpp"
#include "sink/json_lookup.hpp"
#include "sink/route.hpp"
#include "spool/block.hpp"
#include "spool/event_record.hpp"

namespace sluice::sink {

// Why an event makes no row: a value that its column's type cannot hold, or one that is missing and
// required. Never quotes the value.
struct EncodeError {
  std::string sqlstate;  // what Postgres would say, see sqlstate_of()
  std::string column;
  std::string message;
};

// Built for a route once its columns' types are known (see bind_columns()). Appends to a buffer
// that the caller reuses; in binary format a row costs no allocation. Members and pointers of the
// route are found by one walk over the event's text, which costs nothing where it has none.
//
// Rows go in binary format unless a column's type has no encoder for it.
//
// Thread: one, as for the events.
class CopyEncoder final {
 public:
  // REQUIRES: `bound` are the columns' as bind_columns() returned them, one each.
  CopyEncoder(std::span<const Column> columns, std::span<const BoundColumn> bound);

  // What the COPY has to be told. The same for as long as the encoder lives.
  [[nodiscard]] CopyFormat format() const { return format_; }

  // What stands once before all rows, and once behind them; nothing in text format.
  void append_header(CopyBuffer& buffer) const;
  void append_trailer(CopyBuffer& buffer) const;

  // Appends the row of the event that stands at `position`; on an error the buffer stays as it was.
  [[nodiscard]] std::optional<EncodeError> append_row(const spool::EventView& event,
                                                      const spool::Position& position,
                                                      CopyBuffer& buffer) const;

 private:
  struct Row;

  // The short ways of the binary format, for values that are what their column is by nature.
  enum class Way : std::uint8_t {
    any,
    id,
    occurred_at,
    received_at,
    uid,
    text,   // of a field
    jsonb,  // likewise
    constant,
    extra,
  };
  struct Target {
    Source source;
    Way way;
    spool::Field field;  // of a source that is one
    BoundColumn column;
    bool required;
    std::uint32_t slot;  // of a member or pointer in found_, of a constant in constants_
  };
  // What is found anew for each event, kept for its memory alone.
  struct Scratch {
    std::vector<JsonValue> found;           // by slot
    std::vector<std::string_view> members;  // that columns take whole
    CopyBuffer text;
    CopyBuffer extra;
  };

  void add_target(const Column& column, const BoundColumn& bound);
  [[nodiscard]] std::uint32_t slot_of(const Column& column);
  [[nodiscard]] std::string encoded_constant(const BoundColumn& column,
                                             const std::string& json) const;
  [[nodiscard]] static Way way_of(const Column& column, const BoundColumn& bound);
  void find_values(const Row& row) const;
  [[nodiscard]] std::size_t row_bytes_max(const Row& row) const;
  [[nodiscard]] JsonValue value_of(const Target& target, const Row& row, char* made) const;
  [[nodiscard]] Misfit append_binary(const Row& row, CopyBuffer& buffer,
                                     const Target*& failed) const;
  [[nodiscard]] Misfit append_text(const Row& row, CopyBuffer& buffer, const Target*& failed) const;
  [[nodiscard]] bool append_text_column(const Target& target, const Row& row, CopyBuffer& buffer,
                                        Misfit& misfit) const;
  char* write_binary(char* out, const Target& target, const Row& row, Misfit& misfit) const;
  char* write_any(char* out, const Target& target, const Row& row, Misfit& misfit) const;
  char* write_extra(char* out, const Target& target, const Row& row, Misfit& misfit) const;

  CopyFormat format_ = CopyFormat::binary;
  std::vector<Target> targets_;
  std::vector<std::string> names_;       // of the columns
  std::vector<std::string> constants_;   // as each row has them
  std::vector<std::string> slot_names_;  // the name or pointer of each slot
  JsonLookup in_members_;                // of the event's extra runs
  JsonLookup in_data_;
  std::size_t extra_columns_ = 0;
  bool has_to_look_ = false;  // at more than fields: members, pointers, lines, what else is extra
  bool has_lines_ = false;
  std::size_t fixed_bytes_ = 0;  // of a row, the events' own text left out
  std::size_t uses_max_ = 1;     // columns that one field's text may go to
  // Of the event at hand.
  mutable ExtraMembers extra_members_;
  mutable Scratch scratch_;
};

// What is wrong with a constant in a column of this type; Misfit::none if nothing is.
[[nodiscard]] Misfit constant_misfit(const std::string& json, const BoundColumn& column);

}  // namespace sluice::sink
