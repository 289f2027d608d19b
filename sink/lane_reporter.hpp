// What a lane tells about its work. The daemon makes logs and metrics of it, tests look at every
// call.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <span>
#include <string_view>

#include "sink/database.hpp"
#include "spool/block.hpp"

namespace sluice::sink {

enum class LaneState {
  connecting,  // connecting, reading the catalog, resolving the watermark
  idle,        // connected, nothing to send
  sending,     // a batch is under way
  waiting,     // backing off after a failure that goes away by itself
  held,        // a failure that a person must mend; looks again by itself
};
inline constexpr std::size_t kLaneStateCount = 5;

// Events received at the same moment and committed in the same batch.
struct CommittedGroup {
  std::int64_t received_us;  // since the Unix epoch
  std::uint64_t events;
};

struct CommittedBatch {
  std::uint64_t events = 0;                 // rows that came to their tables
  std::uint64_t duplicates = 0;             // events that were in their tables already
  std::uint64_t bytes = 0;                  // of COPY data
  std::chrono::microseconds copy_time{};    // from W1 to the tag COPY n
  std::chrono::microseconds commit_time{};  // of W3
  std::span<const CommittedGroup> groups;   // valid during the call
};

// Thread: the sink's.
class LaneReporter {
 public:
  virtual ~LaneReporter() = default;

  virtual void state_changed(std::size_t lane, LaneState state) = 0;
  // A step failed. `step` is a word for people: "connect", "resolve", "copy", "commit", ….
  virtual void failed(std::size_t lane, std::string_view step, const Failure& failure,
                      std::chrono::milliseconds retry_in) = 0;
  // Like failed(), but nothing will change until a person mends it.
  virtual void held(std::size_t lane, std::string_view step, const Failure& failure,
                    std::chrono::milliseconds retry_in) = 0;
  virtual void recovered(std::size_t lane) = 0;
  virtual void batch_committed(std::size_t lane, const CommittedBatch& batch) = 0;
  // The outcome of a COMMIT is not known; the watermark will tell.
  virtual void commit_unknown(std::size_t lane) = 0;
  // A resolve found that a batch of unknown outcome was committed.
  virtual void unknown_was_committed(std::size_t lane, std::uint64_t events) = 0;
  // A resolve found events committed that this lane did not send: before a restart, or by a clone
  // of the spool.
  virtual void found_committed(std::size_t lane, std::uint64_t events) = 0;
  // The row was refused for itself; its event is in the set-aside records.
  virtual void row_set_aside(std::size_t lane, const spool::Position& position,
                             const Failure& failure) = 0;
  // The watermark has passed so many events that are in the set-aside records.
  virtual void set_aside_committed(std::size_t lane, std::uint64_t events) = 0;
  // The database has no watermark for a segment that is too old to begin anew: it was quarantined
  // with so many events.
  virtual void segment_forgotten(std::size_t lane, const spool::Uuid& segment,
                                 std::uint64_t events) = 0;
  // The database had a later watermark before: `events` events from `from` on were lost by a
  // failover. `resent` tells whether they are still here and go again.
  virtual void commits_lost(std::size_t lane, const spool::Position& from, std::uint64_t events,
                            bool resent) = 0;
};

}  // namespace sluice::sink
