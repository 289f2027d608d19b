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
  // That many refused with none passed between: the table has changed, not the rows.
  static constexpr std::uint64_t kBrake = 1'000;

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

  // True: nothing more may be set aside before a row has passed.
  [[nodiscard]] bool brakes() const { return refused_in_a_row_ >= kBrake; }
  void row_passed() { refused_in_a_row_ = 0; }

 private:
  [[nodiscard]] std::vector<RefusedRow>::iterator at_or_above(std::uint64_t index);

  std::vector<RefusedRow> rows_;  // by rising index
  std::uint64_t refused_in_a_row_ = 0;
};

}  // namespace sluice::sink
