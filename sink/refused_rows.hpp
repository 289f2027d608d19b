// The rows of a lane's segment that cannot be in its table, from the refusal until the watermark
// has passed them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "sink/database.hpp"
#include "spool/aside.hpp"

namespace sluice::sink {

struct RefusedRow {
  std::uint64_t index = 0;
  Failure reason;
  spool::AsideState state = spool::AsideState::dead;
  bool recorded = false;  // its event is in the set-aside records, durably
};

// Thread: the sink's.
class RefusedRows final {
 public:
  [[nodiscard]] bool empty() const { return rows_.empty(); }
  // Valid until the next change.
  [[nodiscard]] RefusedRow* find(std::uint64_t index);
  void add(std::uint64_t index, Failure reason, spool::AsideState state = spool::AsideState::dead);
  // What earlier deliveries of the segment left, instead of what is here.
  void recall(std::vector<spool::AsideEntry> entries);
  // How many rows in [from, upto) are recorded.
  [[nodiscard]] std::uint64_t recorded_between(std::uint64_t from, std::uint64_t upto) const;
  void forget_below(std::uint64_t index);
  void clear() { rows_.clear(); }

 private:
  [[nodiscard]] std::vector<RefusedRow>::iterator at_or_above(std::uint64_t index);

  std::vector<RefusedRow> rows_;  // by rising index
};

}  // namespace sluice::sink
