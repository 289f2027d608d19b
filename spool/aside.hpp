// Events that were set aside so that their neighbours could pass: written to aside/ in the spool's
// directory, one JSON object a line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "spool/block.hpp"

namespace sluice::spool {

enum class AsideState {
  dead,  // Postgres refused the row for itself
};

struct AsideRecord {
  AsideState state = AsideState::dead;
  Uuid segment;
  std::uint64_t index = 0;
  std::int64_t time_us = 0;  // of setting aside, since the Unix epoch
  std::uint32_t uid = kNoUid;
  std::string_view table;
  std::string_view sqlstate;
  std::string_view message;
  std::string_view column;
  std::string_view line;  // as the producer sent it
};

// A record that is there already.
struct AsideEntry {
  std::uint64_t index = 0;
  // Written and synced in this run. Otherwise it is only what an earlier run may have left: it has
  // to be written again before it counts.
  bool durable = false;
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

}  // namespace sluice::spool
