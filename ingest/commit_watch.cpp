#include "ingest/commit_watch.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace sluice::ingest {
namespace {

// Of the same segment alone: a segment whose commits were not told is not taken for committed
// because a later one is.
bool reaches(const spool::Position& committed, const spool::Position& end) {
  return committed.segment == end.segment && committed.index >= end.index;
}

}  // namespace

CommitWatch::CommitWatch(std::size_t lanes) {
  for (std::size_t i = 0; i < lanes; ++i) lanes_.push_back(std::make_unique<Lane>());
}

void CommitWatch::watch(std::span<const BlockEnd> ends, std::shared_ptr<AckLedger> ledger,
                        AckLedger::Ticket number) {
  const auto ticket = std::make_shared<Ticket>();
  ticket->ledger = std::move(ledger);
  ticket->number = number;
  // One more than the ends, so that it does not end while they are still being entered.
  ticket->ends_left = ends.size() + 1;
  for (const BlockEnd& end : ends) {
    Lane& lane = *lanes_.at(end.lane);
    bool committed = false;
    {
      const std::lock_guard lock(lane.mutex);
      // Enough to see any commit since the append: no later segment has a block before the next
      // one is appended, so the lane's last commit is of this segment if it passed the end.
      committed = lane.committed && reaches(*lane.committed, end.position);
      if (!committed) lane.waiting.push_back({end.position, ticket});
    }
    if (committed) end_one(*ticket);
  }
  end_one(*ticket);
}

void CommitWatch::committed(spool::LaneIndex index, const spool::Position& upto) {
  if (upto.index == 0) return;  // nothing of this segment; what is known of the one before stays
  Lane& lane = *lanes_.at(index);
  std::vector<Waiting> reached;
  {
    const std::lock_guard lock(lane.mutex);
    lane.committed = upto;
    const auto first =
        std::find_if(lane.waiting.begin(), lane.waiting.end(),
                     [&](const Waiting& w) { return w.end.segment == upto.segment; });
    const auto last = std::find_if(first, lane.waiting.end(),
                                   [&](const Waiting& w) { return !reaches(upto, w.end); });
    std::move(first, last, std::back_inserter(reached));
    lane.waiting.erase(first, last);
  }
  for (const Waiting& waiting : reached) end_one(*waiting.ticket);
}

void CommitWatch::end_one(Ticket& ticket) {
  if (ticket.ends_left.fetch_sub(1) == 1) ticket.ledger->committed(ticket.number);
}

}  // namespace sluice::ingest
