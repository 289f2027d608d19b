// The log on disk (durability = "power" or "process"): blocks are written to segment files and
// survive the process; lanes read them from memory while they keep up, else from the files. The
// format is docs/spool_format.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "spool/disk.hpp"
#include "spool/producer_table.hpp"
#include "spool/spool.hpp"

namespace sluice::spool {

enum class Durability {
  power,    // a block is durable when fdatasync has returned 0
  process,  // when it has been written: it survives the process, not the machine
};

struct DiskSpoolOptions {
  std::size_t lanes = 2;
  Durability durability = Durability::power;
  std::uint64_t bytes_max = 8ull << 30;     // of all files in the directory
  std::uint64_t segment_bytes = 64u << 20;  // a segment is sealed when it has as much
  std::chrono::milliseconds retain_time{900'000};
  std::uint64_t retain_bytes = 4ull << 30;
  std::chrono::milliseconds dedupe_window{600'000};  // how long .keys files are of use
  std::uint64_t reserve_bytes = 16u << 20;           // kept back for seals when the disk is full
  // Of blocks that a lane has not read yet; what does not fit it reads from the file.
  std::size_t cached_bytes_max = 2u << 20;  // per lane
  std::uint64_t seed = 0;                   // of uuids and of a new spool's hash seed; 0: random
};

// Durable bytes of one segment that a start found bad.
struct StartDamage {
  Uuid segment;
  std::uint64_t first_index = 0;  // of the first event in them
  std::uint64_t events = 0;       // in them, committed or not
  std::uint64_t runs = 0;         // of bad bytes
  std::uint64_t bytes = 0;
  std::uint64_t keys_kept = 0;  // dedupe keys of these events that the side file had
};

// What the spool tells about itself; the daemon makes logs and metrics of it. Threads: the
// journal's, the sink's, and the one that opens the spool.
class SpoolReporter {
 public:
  virtual ~SpoolReporter() = default;

  // Bytes past the last durable one that are no whole block: a write that a crash cut short.
  virtual void torn_tail(const Uuid& segment, std::uint64_t bytes) = 0;
  // Durable bytes that are bad: a copy is in quarantine/; `bytes` is 0 where none is, and events
  // are left out all the same. `events` were lost with them, from `first_index` on; none: how many
  // cannot be known (the file has no good block after it).
  virtual void quarantined(const Uuid& segment, std::uint64_t first_index,
                           std::optional<std::uint64_t> events, std::uint64_t bytes) = 0;
  // Good blocks follow the bad bytes, copies are in quarantine/. Told for what only these bytes
  // say, the dedupe keys and the producers' numbers; events in them that are not committed yet are
  // reported by quarantined() when they are to be delivered.
  virtual void damaged_at_start(const StartDamage& damage) = 0;
  // The bytes there cannot be read; a lane tries again for half a minute before it counts them as
  // bad.
  virtual void read_failed(const Uuid& segment, std::uint64_t offset, std::error_code error) = 0;
  // A file that cannot be delivered was moved to quarantine/; or one was left where it is: it is
  // not ours, or the disk cannot read it now.
  virtual void file_set_aside(const std::string& name, std::string_view reason) = 0;
  // Segments that must be there and are not.
  virtual void segments_missing(std::uint64_t count) = 0;
  // A write or sync failed with this; the segment takes no more and another goes on where it ends.
  virtual void segment_poisoned(const Uuid& segment, std::string_view step,
                                std::error_code error) = 0;
  // No block can be appended: the disk is full, the cap is reached, or the disk fails.
  virtual void full(std::string_view reason) = 0;
  virtual void room_again() = 0;
  // One group commit: how long its fdatasync took, and the receipt of the records in it.
  virtual void synced(std::chrono::microseconds took) = 0;
  // A side file could not be written. A start reads the keys from the segment, which stays until
  // they are written or the dedupe window has passed.
  virtual void keys_unwritten(const std::string& name, std::string_view reason) = 0;
  // A side file could not be read: the dedupe window is shorter.
  virtual void keys_lost(const std::string& name, std::string_view reason) = 0;
};

// The directory holds a spool of a newer format than this program knows.
class NewerFormat : public std::runtime_error {
  using std::runtime_error::runtime_error;
};
// The directory cannot be used at all; the message says why and what to do.
class SpoolUnusable : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A dedupe key that the files remember.
struct RememberedKey {
  std::uint64_t hash[2];
  std::int64_t written_us;  // since the Unix epoch
};

// Threads: the writer's face and tend() belong to the journal, the readers' to the sink; a mutex
// per lane stands between. The callbacks are called with no lock held: on_readable(lane) on the
// journal's thread, on_room() and on_released(lane, upto) on the sink's.
class DiskSpool final : public SpoolWriter {
 public:
  struct Callbacks {
    std::function<void(LaneIndex)> on_readable = [](LaneIndex) {};
    std::function<void()> on_room = [] {};
    // Everything before the position is committed; index UINT64_MAX: all of the segment.
    std::function<void(LaneIndex, const Position&)> on_released = [](LaneIndex, const Position&) {};
  };

  // Recovers what is in the directory: reads every segment's head, and those that were open whole.
  // REQUIRES: nobody else writes there (the caller holds its lock); all outlive the spool.
  // Throws NewerFormat or SpoolUnusable.
  DiskSpool(DiskSpoolOptions options, Disk& disk, ProducerTable& producers, SpoolReporter& reporter,
            Callbacks callbacks, const SpoolTime& now);
  DiskSpool(const DiskSpool&) = delete;
  DiskSpool& operator=(const DiskSpool&) = delete;
  ~DiskSpool() override;

  // Of every keyed hash in this directory's files: the parser must use it. Secret.
  [[nodiscard]] std::uint64_t hash_seed() const;
  // Visits the dedupe keys written since `since_us`, the oldest first, at most the newest
  // `keys_max`. Right after construction only.
  void recovered_keys(std::int64_t since_us, std::uint64_t keys_max,
                      const std::function<void(const RememberedKey&)>& visit);

  // Where the lane's events of earlier runs end. None: it has none. Right after construction only.
  [[nodiscard]] std::optional<Position> recovered_end(LaneIndex lane) const;

  [[nodiscard]] SpoolReader& reader(LaneIndex lane);

  [[nodiscard]] std::optional<LaneIndex> lane_with_room(const SpoolTime& now) override;
  [[nodiscard]] std::optional<Position> append(LaneIndex lane, std::vector<Chunk>& chunks,
                                               std::span<const ProducerMark> marks,
                                               const SpoolTime& now) override;
  void tend(const SpoolTime& now) override;
  // No append follows: makes the ends of the open segments durable.
  void close(const SpoolTime& now);

  // Thread of the rest: any.
  // Events appended and not yet released, over all lanes; at start, all that the segments hold.
  [[nodiscard]] std::uint64_t events_held() const;
  // Events that were in the segments at start.
  [[nodiscard]] std::uint64_t events_recovered() const;
  [[nodiscard]] std::uint64_t bytes() const;
  [[nodiscard]] std::uint64_t segments() const;
  // Receipt of the oldest event that was not released: microseconds since the Unix epoch, from its
  // block's time. None if there is none.
  [[nodiscard]] std::optional<std::int64_t> oldest_received_us() const;
  // Why nothing can be appended; empty: all is well.
  [[nodiscard]] std::string why_full() const;

 private:
  struct Parts;
  const std::unique_ptr<Parts> parts_;
};

}  // namespace sluice::spool
