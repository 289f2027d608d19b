// Event records in, rows of one of Postgres's COPY formats out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sink/copy_buffer.hpp"
#include "sink/database.hpp"
#include "sink/route.hpp"
#include "spool/block.hpp"
#include "spool/event_record.hpp"

namespace sluice::sink {

// Why an event makes no row: a value that its column's type cannot hold. Never quotes the value.
struct EncodeError {
  std::string sqlstate;  // what Postgres would say: 22003 out of range, 22P02 not of this type
  std::string column;
  std::string message;
};

// Built for a route once its columns' types are known (see bind_columns()). Appends to a buffer
// that the caller reuses; a row costs no allocation.
//
// Thread: one, as for the events.
class CopyEncoder final {
 public:
  // REQUIRES: `types` are the columns' as bind_columns() returned them, one each.
  CopyEncoder(std::span<const Column> columns, std::span<const ColumnType> types);

  // What the COPY has to be told. The same for as long as the encoder lives.
  [[nodiscard]] CopyFormat format() const { return CopyFormat::binary; }

  // What stands once before all rows, and once behind them; nothing in text format.
  void append_header(CopyBuffer& buffer) const;
  void append_trailer(CopyBuffer& buffer) const;

  // Appends the row of the event that stands at `position`; on an error the buffer stays as it was.
  [[nodiscard]] std::optional<EncodeError> append_row(const spool::EventView& event,
                                                      const spool::Position& position,
                                                      CopyBuffer& buffer) const;

 private:
  struct Target {
    Source source;
    ColumnType type;
    std::string name;
  };

  std::vector<Target> targets_;
  std::size_t fixed_bytes_ = 0;  // of a row, the events' own text left out
  std::size_t uses_max_ = 1;     // columns that one piece of the text may go to
};

}  // namespace sluice::sink
