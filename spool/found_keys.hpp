// The dedupe keys of a segment that was read whole: those of its good blocks, and of bad ones as
// far as its side file tells them.
#pragma once

#include <cstdint>
#include <string>
#include <system_error>
#include <utility>
#include <variant>
#include <vector>

#include "spool/disk.hpp"
#include "spool/keys_file.hpp"
#include "spool/segment_scan.hpp"
#include "spool/uuid.hpp"

namespace sluice::spool {

// The keys of each block that has some, with the time at which it was written; in their order.
using KeyGroups = std::vector<std::pair<std::int64_t, std::vector<StoredKey>>>;

// What is whole of a side file; nothing if it is not this segment's.
[[nodiscard]] KeyGroups read_key_groups(Disk& disk, const std::string& name, const Uuid& segment);

// Puts a side file with these keys in the place of the one that is there. The bytes are durable
// afterwards, the name is not; after an error the old one is there.
[[nodiscard]] std::error_code replace_keys_file(Disk& disk, std::uint64_t ordinal,
                                                const Uuid& segment, const KeyGroups& groups);

// Cuts the side file down to the groups at its beginning that are the first ones of these, durably;
// needs no room on the disk. False: it has none of them, or the disk fails.
[[nodiscard]] bool cut_keys_file(Disk& disk, const std::string& name, const Uuid& segment,
                                 const KeyGroups& groups);

// Value. Blocks and gaps are added in the order in which they stand in the segment.
class FoundKeys final {
 public:
  void add_block(const ScannedBlock& block);
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

// The keys of a segment that ends there; those of bad blocks as far as its side file tells them.
[[nodiscard]] std::variant<KeyGroups, std::error_code> read_segment_keys(Disk& disk,
                                                                         std::uint64_t ordinal,
                                                                         const Uuid& segment,
                                                                         std::uint64_t end_bytes);

}  // namespace sluice::spool
