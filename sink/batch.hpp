// What a lane knows of the batch that it is sending, and when that is to be closed.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "sink/database.hpp"
#include "sink/lane_reporter.hpp"
#include "sink/route_tables.hpp"

namespace sluice::sink {

using Clock = std::chrono::steady_clock;

// Events [from, next) of a segment, to be moved from its watermark.
//
// It is committed when it has batch_rows_max rows or batch_bytes_max bytes, or a delay after its
// first event: batch_delay, or twice what a commit takes if that is more, so that commits never
// take more than a third of the time. Under load it depends on who is in it: a batch of nothing but
// bulk, large chunks of connections that flood, goes on for a second delay while there is more, as
// larger batches cost the server less; one that also holds a chunk of a quiet connection ends a
// quarter of the delay after that, so that a quiet event does not wait for the bulk around it.
//
// Thread: the sink's.
struct Batch {
  Batch() = default;
  // `commit_cost`: what a commit takes.
  Batch(std::uint64_t first, std::chrono::milliseconds batch_delay,
        std::chrono::microseconds commit_cost, Clock::time_point now);

  // It has events of a chunk of so many bytes.
  void note_chunk(std::size_t chunk_bytes, Clock::time_point now);
  // It has a row of the event with this index, received then.
  void add_row(std::uint64_t index, std::int64_t received_us, std::size_t row_bytes);
  // The table has taken rows, or had them.
  void note_passed(const RouteTable& table);
  [[nodiscard]] bool has_passed(const RouteTable& table) const;
  // The time of a piece that was refused is no reason to close a batch with fewer rows: a commit
  // costs more. But nobody quiet waits for it, and the bulk not for long.
  void give_back(Clock::duration lost);
  [[nodiscard]] Clock::time_point closing_time(bool more_to_read) const;

  std::uint64_t from = 0;
  std::uint64_t rows = 0;                 // of all tables
  std::uint64_t rows_added = 0;           // to their tables
  std::uint64_t not_added = 0;            // by merging: duplicates, and conflicts
  std::uint64_t conflicts = 0;            // set aside, as other rows have their keys
  std::vector<const RouteTable*> passed;  // tables that took rows, or had them
  std::uint64_t bytes = 0;
  bool is_open = false;  // the transaction
  bool is_in_pieces = false;
  std::uint64_t pieces = 0;  // that passed
  // Of the piece under way, which is the whole batch if that is not in pieces.
  Clock::time_point piece_began;  // or began again
  std::uint64_t piece_from = 0;
  std::uint64_t piece_rows = 0;
  std::uint64_t first_row = 0;     // the index of the first row in it
  Savepoint savepoint{};           // what the next step has to do about it
  RouteTable* streamed = nullptr;  // the table whose rows go out as they come
  RouteTable* copied = nullptr;    // the table whose COPY is open, or was last
  std::size_t sent = 0;            // of its rows' bytes, where they were kept back
  bool is_settled = false;
  bool piece_ends = false;
  Clock::time_point began;
  std::chrono::milliseconds delay{};  // batch_delay, or more where commits are slow
  Clock::time_point closes_at;
  Clock::time_point commit_began;
  std::chrono::microseconds copy_time{};
  std::vector<CommittedGroup> groups;
  bool must_close = false;
  std::optional<Failure> stuck;  // why the event at next cannot be passed
  bool has_bulk = false;
  bool has_quiet = false;
};

}  // namespace sluice::sink
