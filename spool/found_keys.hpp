// The dedupe keys of a segment that was read whole: those of its good blocks, and of bad ones as
// far as its side file tells them.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "spool/disk.hpp"
#include "spool/keys_file.hpp"
#include "spool/uuid.hpp"

namespace sluice::spool {

// The keys of each block that has some, with the time at which it was written; in their order.
using KeyGroups = std::vector<std::pair<std::int64_t, std::vector<StoredKey>>>;

// What is whole of a side file; nothing if it is not this segment's.
[[nodiscard]] KeyGroups read_key_groups(Disk& disk, const std::string& name, const Uuid& segment);

// Value. Blocks and gaps are added in the order in which they stand in the segment.
class FoundKeys final {
 public:
  // Nothing is added for no keys.
  void add_block(std::int64_t written_us, std::vector<StoredKey> keys);
  // Durable bytes are bad there, and `events` were in them. The good block behind them was written
  // at `before_us`.
  void add_gap(std::uint64_t events, std::int64_t before_us);

  // Takes from the side file's groups those that can only be of blocks in the gaps; returns how
  // many keys that were. REQUIRES: nothing is added afterwards.
  std::uint64_t fill_gaps(const KeyGroups& side);

  [[nodiscard]] const KeyGroups& groups() const { return groups_; }

 private:
  struct Gap {
    std::size_t at = 0;  // before this one of groups_
    std::uint64_t events = 0;
    std::int64_t before_us = 0;
  };

  [[nodiscard]] KeyGroups groups_of(const Gap& gap, const KeyGroups& side) const;

  KeyGroups groups_;
  std::vector<Gap> gaps_;  // with keys between each and the next
};

}  // namespace sluice::spool
