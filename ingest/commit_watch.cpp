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

// The line of the n-th row, counted from 0; none if there are not so many.
std::optional<std::uint64_t> line_of(const std::vector<AckLedger::Lines>& lines, std::uint64_t n) {
  for (const AckLedger::Lines& run : lines) {
    const std::uint64_t count = run.last - run.first + 1;
    if (n < count) return run.first + n;
    n -= count;
  }
  return std::nullopt;
}

}  // namespace

CommitWatch::CommitWatch(std::size_t lanes) {
  for (std::size_t i = 0; i < lanes; ++i) lanes_.push_back(std::make_unique<Lane>());
}

void CommitWatch::appending(spool::LaneIndex index) {
  Lane& lane = *lanes_.at(index);
  const std::lock_guard lock(lane.mutex);
  lane.is_appending = true;
}

void CommitWatch::appended(const BlockEnd& end) {
  Lane& lane = *lanes_.at(end.lane);
  const std::lock_guard lock(lane.mutex);
  lane.is_appending = false;
  const bool goes_on = is_newest(lane, end.position.segment);
  lane.newest_begin = goes_on ? lane.newest->index : 0;
  lane.newest = end.position;
  forget_whole(lane);
}

void CommitWatch::not_appended(spool::LaneIndex index) {
  Lane& lane = *lanes_.at(index);
  const std::lock_guard lock(lane.mutex);
  lane.is_appending = false;
}

CommitWatch::Told& CommitWatch::told_of(Lane& lane, const spool::Uuid& segment) {
  const auto known = std::find_if(lane.told.begin(), lane.told.end(),
                                  [&](const Told& told) { return told.segment == segment; });
  return known != lane.told.end() ? *known : lane.told.emplace_back(Told{segment});
}

bool CommitWatch::is_newest(const Lane& lane, const spool::Uuid& segment) {
  return lane.newest && lane.newest->segment == segment;
}

// Rows of blocks that no ticket waits for, and none will.
void CommitWatch::forget_refused(Lane& lane, const spool::Uuid& segment) {
  if (lane.is_appending || lane.refused.empty()) return;
  std::uint64_t keep_from = is_newest(lane, segment) ? lane.newest_begin : UINT64_MAX;
  const auto oldest = std::find_if(lane.waiting.begin(), lane.waiting.end(),
                                   [&](const Waiting& w) { return w.end.segment == segment; });
  if (oldest != lane.waiting.end()) keep_from = std::min(keep_from, oldest->block_begin);
  lane.refused.erase(lane.refused.lower_bound({segment, 0}),
                     lane.refused.lower_bound({segment, keep_from}));
}

// No watch comes for them any more.
void CommitWatch::forget_whole(Lane& lane) {
  if (lane.is_appending) return;
  std::erase_if(lane.told, [&](const Told& told) {
    const bool goes = told.is_whole() && !is_newest(lane, told.segment);
    if (goes) forget_refused(lane, told.segment);
    return goes;
  });
}

void CommitWatch::watch(std::span<const BlockEnd> ends, std::shared_ptr<AckLedger> ledger,
                        AckLedger::Ticket number, ChunkRows rows) {
  const auto ticket = std::make_shared<Ticket>();
  ticket->ledger = std::move(ledger);
  ticket->number = number;
  ticket->rows = std::move(rows);
  // One more than the ends, so that it does not end while they are still being entered.
  ticket->ends_left = ends.size() + 1;
  for (const BlockEnd& end : ends) {
    Lane& lane = *lanes_.at(end.lane);
    bool committed = false;
    std::vector<RefusedLine> refused;
    {
      const std::lock_guard lock(lane.mutex);
      committed = told_of(lane, end.position.segment).upto >= end.position.index;
      if (!committed) lane.waiting.push_back({end.position, lane.newest_begin, ticket});
      if (committed) find_refused(end.lane, lane, ticket, refused);
    }
    for (const auto& [_, row] : refused) ticket->ledger->row_refused(row.line, row.sqlstate);
    if (committed) end_one(*ticket);
  }
  end_one(*ticket);
}

void CommitWatch::committed(spool::LaneIndex index, const spool::Position& upto) {
  if (upto.index == 0) return;  // nothing of this segment; what is known of the one before stays
  Lane& lane = *lanes_.at(index);
  std::vector<Waiting> reached;
  std::vector<RefusedLine> refused;
  {
    const std::lock_guard lock(lane.mutex);
    told_of(lane, upto.segment).upto = upto.index;
    const auto first =
        std::find_if(lane.waiting.begin(), lane.waiting.end(),
                     [&](const Waiting& w) { return w.end.segment == upto.segment; });
    const auto last = std::find_if(first, lane.waiting.end(),
                                   [&](const Waiting& w) { return !reaches(upto, w.end); });
    std::move(first, last, std::back_inserter(reached));
    lane.waiting.erase(first, last);
    for (const Waiting& waiting : reached) find_refused(index, lane, waiting.ticket, refused);
    forget_refused(lane, upto.segment);
    forget_whole(lane);
  }
  for (const auto& [ticket, row] : refused) ticket->ledger->row_refused(row.line, row.sqlstate);
  for (const Waiting& waiting : reached) end_one(*waiting.ticket);
}

void CommitWatch::refused(spool::LaneIndex index, const spool::Position& row,
                          std::string_view sqlstate) {
  Lane& lane = *lanes_.at(index);
  const std::lock_guard lock(lane.mutex);
  // A segment that is delivered again after a failover refuses its rows again.
  lane.refused.try_emplace({row.segment, row.index}, sqlstate);
}

std::size_t CommitWatch::refused_kept(spool::LaneIndex index) const {
  const Lane& lane = *lanes_.at(index);
  const std::lock_guard lock(lane.mutex);
  return lane.refused.size();
}

void CommitWatch::find_refused(spool::LaneIndex index, const Lane& lane,
                               const std::shared_ptr<Ticket>& ticket,
                               std::vector<RefusedLine>& found) {
  const ChunkRows& rows = ticket->rows;
  if (rows.lines.empty() || rows.lane != index) return;
  auto each = lane.refused.lower_bound({rows.first.segment, rows.first.index});
  for (; each != lane.refused.end() && each->first.first == rows.first.segment; ++each) {
    const auto line = line_of(rows.lines, each->first.second - rows.first.index);
    if (!line) return;
    found.push_back({ticket, {*line, each->second}});
  }
}

void CommitWatch::end_one(Ticket& ticket) {
  if (ticket.ends_left.fetch_sub(1) == 1) ticket.ledger->committed(ticket.number);
}

}  // namespace sluice::ingest
