#include "sink/batch.hpp"

#include <algorithm>
#include <utility>

namespace sluice::sink {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;

// A connection that floods fills chunks of 64 KiB and more; one of less was not kept waiting.
constexpr std::size_t kQuietChunkBytes = 16 * 1024;
constexpr milliseconds kDelayMax{1'000};
// How long a batch may be made longer by refused pieces, in its delays.
constexpr int kDelaysMax = 4;

}  // namespace

Batch::Batch(std::uint64_t first, milliseconds batch_delay, std::chrono::microseconds commit_cost,
             Clock::time_point now)
    : from(first),
      began(now),
      delay(
          std::max(batch_delay, std::min(kDelayMax, duration_cast<milliseconds>(2 * commit_cost)))),
      closes_at(now + delay) {}

void Batch::note_chunk(std::size_t chunk_bytes, Clock::time_point now) {
  bool& has_this = chunk_bytes < kQuietChunkBytes ? has_quiet : has_bulk;
  if (std::exchange(has_this, true)) return;
  if (has_bulk && has_quiet) closes_at = std::min(closes_at, now + delay / 4);
}

void Batch::add_row(std::uint64_t index, std::int64_t received_us, std::size_t row_bytes) {
  if (piece_rows == 0) first_row = index;
  bytes += row_bytes;
  ++rows;
  ++piece_rows;
  if (groups.empty() || groups.back().received_us != received_us)
    groups.push_back({received_us, 0});
  ++groups.back().events;
}

void Batch::note_passed(const RouteTable& table) {
  if (!has_passed(table)) passed.push_back(&table);
}

bool Batch::has_passed(const RouteTable& table) const {
  return std::find(passed.begin(), passed.end(), &table) != passed.end();
}

void Batch::give_back(Clock::duration lost) {
  if (has_quiet) return;
  closes_at = std::max(closes_at, std::min(closes_at + lost, began + kDelaysMax * delay));
}

Clock::time_point Batch::closing_time(bool more_to_read) const {
  const bool only_bulk = has_bulk && !has_quiet;
  return only_bulk && more_to_read ? closes_at + delay : closes_at;
}

}  // namespace sluice::sink
