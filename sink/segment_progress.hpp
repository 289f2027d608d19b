// How far one segment is delivered, as its lane knows it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "spool/spool.hpp"

namespace sluice::sink {

struct SegmentProgress {
  // Indexes that hold no event any more: lost to a corrupt block.
  struct Gap {
    std::uint64_t from;
    std::uint64_t upto;
  };

  explicit SegmentProgress(const spool::SegmentToDeliver& segment)
      : id(segment.id), created_us(segment.created_us) {}

  // The next event is the one at `first_index`: those before it are lost.
  void skip_to(std::uint64_t first_index) {
    const bool is_new = gaps.empty() || gaps.back().upto < first_index;
    if (is_new) gaps.push_back({next, first_index});
    next = first_index;
  }
  // How many of the indexes hold an event, as far as they were read.
  [[nodiscard]] std::uint64_t events_between(std::uint64_t from, std::uint64_t upto) const {
    std::uint64_t events = upto - from;
    for (const Gap& gap : gaps) {
      const std::uint64_t begin = std::max(from, gap.from);
      const std::uint64_t end = std::min(upto, gap.upto);
      if (begin < end) events -= end - begin;
    }
    return events;
  }

  const spool::Uuid id;
  const std::int64_t created_us;
  bool resolved = false;  // by R, since the last failure
  bool known = false;     // by R, ever
  // The last write to its watermark row was a commit of this lane's own, with no warning.
  bool confirmed = false;
  // watermark is what the database has; committed is how far we know it to be committed: more than
  // watermark only after a failover lost commits whose events are gone.
  std::uint64_t watermark = 0;
  std::uint64_t committed = 0;
  std::uint64_t next = 0;              // the next event to encode; committed <= next
  std::uint64_t commit_sent_upto = 0;  // of all W3: above committed R must tell
  std::vector<Gap> gaps;               // by rising index
};

}  // namespace sluice::sink
