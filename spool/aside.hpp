// Events that were set aside so that their neighbours could pass: written to aside/ in the spool's
// directory, one JSON object a line.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "spool/event_record.hpp"

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

// A record counts only while its index is below its segment's watermark: above it, the segment
// delivers the event again and the record is void.
//
// Thread: the sink's.
class AsideWriter {
 public:
  virtual ~AsideWriter() = default;

  // True when the record is as durable as a block would be. False: the file could not take it; the
  // segment has to wait.
  [[nodiscard]] virtual bool append(const AsideRecord& record) = 0;
};

}  // namespace sluice::spool
