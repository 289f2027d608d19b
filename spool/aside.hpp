// Events that were set aside so that their neighbours could pass: written to aside/ in the spool's
// directory, one JSON object a line.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "spool/block.hpp"

namespace sluice::spool {

// Why an event is here, and who tries it again.
enum class AsideState : std::uint8_t {
  dead,      // Postgres refused the row for itself: a person, by `sluice dead retry`
  waiting,   // the row it refers to is missing, and may be on its way: the daemon, for a while
  held,      // its route's table is missing, changed or forbidden: the daemon, until it is mended
  rejected,  // no event at all, but a line that was refused: see reject_log.hpp. Nobody
};
// Of the states in which an event is set aside: those before `rejected`.
inline constexpr std::size_t kAsideStateCount = 3;

// "dead", "waiting", "held", "rejected".
[[nodiscard]] std::string_view aside_state_name(AsideState state);

// The texts of a record that is written, borrowed; of one that was read, see AsideText.
struct AsideRecord {
  AsideState state = AsideState::dead;
  Uuid segment{};
  std::uint64_t index = 0;
  std::int64_t time_us = 0;      // of setting aside, since the Unix epoch
  std::int64_t received_us = 0;  // likewise; 0: not known
  Uuid id{};                     // the event's, so that another try makes the same row
  std::uint32_t uid = kNoUid;
  std::string_view route{};  // what its route matches
  std::string_view type{};  // the event's, decoded: of an event without one, its listener's default
  std::string_view table{};
  std::string_view sqlstate{};
  std::string_view message{};
  std::string_view column{};
  std::string_view line{};  // as the producer sent it
};

// A record that was read back whole.
struct AsideText {
  AsideState state = AsideState::dead;
  Position position;
  std::int64_t time_us = 0;
  std::int64_t received_us = 0;  // 0: not known
  std::optional<Uuid> id;        // none: not known, as in files of the first version
  std::uint32_t uid = kNoUid;
  std::string route;
  std::string type;
  std::string table;
  std::string sqlstate;
  std::string message;
  std::string column;
  std::string line;

  // Borrows the texts.
  [[nodiscard]] AsideRecord record() const;
};

// A record that is there already.
struct AsideEntry {
  std::uint64_t index = 0;
  // Written and synced in this run. Otherwise it is only what an earlier run may have left: it has
  // to be written again before it counts.
  bool durable = false;
  AsideState state = AsideState::dead;
  std::string sqlstate;
  std::string message;
  std::string column;
};

// A record counts only while its index is below its segment's watermark: above it (a crash came
// between, or a failover took the commit back) it is void, because the segment delivers the event
// again. Who delivers it asks for records_from() first and sets the same events aside again: were
// one of them sent instead and taken, it would be both in the table and, once the watermark passes
// it, in the records. An event may so have several records; the last counts.
//
// Thread: the sink's.
class AsideWriter {
 public:
  virtual ~AsideWriter() = default;

  // True when the record is as durable as a block would be. False: the file could not take it; the
  // segment has to wait.
  [[nodiscard]] virtual bool append(const AsideRecord& record) = 0;

  // What is recorded of the segment's events at the position and after it, by rising index, each
  // once. None: the files cannot be read now; the segment has to wait.
  [[nodiscard]] virtual std::optional<std::vector<AsideEntry>> records_from(
      const Position& position) = 0;
};

// A record's line: its file and where it begins there. The order in which records were written.
struct AsidePlace {
  std::uint32_t file = 0;
  std::uint64_t offset = 0;

  auto operator<=>(const AsidePlace&) const = default;
};

// A record whose row is to be tried again.
struct AsideTry {
  Position position;
  AsidePlace place;
  AsideState state = AsideState::dead;
};

// How many rows `sluice.redelivered` has to have of a segment.
struct RedeliveredCount {
  Uuid segment;
  std::uint64_t rows = 0;
};

// The records as seen by who tries them again. Whether one counts, and whether it was delivered
// before, the database says; what is kept here is only what it said last.
//
// Thread: the sink's.
class AsideQueue {
 public:
  virtual ~AsideQueue() = default;

  // Those to be tried that were written behind the place, in their order; at most `count`.
  [[nodiscard]] virtual std::vector<AsideTry> to_try(const AsidePlace& after,
                                                     std::size_t count) = 0;
  // Whether one of all those waits.
  [[nodiscard]] virtual bool has_waiting() const = 0;
  // None: it cannot be read now, or is there no more.
  [[nodiscard]] virtual std::optional<AsideText> read(const Position& position) = 0;
  // The record with another state or reason; from then on it counts. False: the file could not take
  // it, and the record is as it was.
  [[nodiscard]] virtual bool change(const AsideRecord& record) = 0;
  // The row is in its table, and the database says so in `sluice.redelivered`.
  virtual void delivered(const Position& position) = 0;

  // What the database has to have of each segment that has records here.
  [[nodiscard]] virtual std::vector<RedeliveredCount> redelivered() const = 0;
  // What it has, where that is another number: all indexes of the segment, rising. Those that it
  // has lost are tried again. Returns how many that are.
  virtual std::uint64_t found_redelivered(const Uuid& segment,
                                          std::span<const std::uint64_t> indexes) = 0;
};

}  // namespace sluice::spool
