// Which chunks of connections that asked for "committed" wait for which positions of which lanes.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ingest/ack_ledger.hpp"
#include "spool/spool.hpp"

namespace sluice::ingest {

// The end of a block in its lane.
struct BlockEnd {
  spool::LaneIndex lane = 0;
  spool::Position position;
};

// The rows of a chunk in its block, and the lines that they were.
struct ChunkRows {
  spool::LaneIndex lane = 0;
  spool::Position first;                // of the first row
  std::vector<AckLedger::Lines> lines;  // in the order of the rows
};

// Threads: any; the journal watches, the sink tells. Ledgers are told with no lock held.
class CommitWatch final {
 public:
  explicit CommitWatch(std::size_t lanes);
  CommitWatch(const CommitWatch&) = delete;
  CommitWatch& operator=(const CommitWatch&) = delete;

  // A block is being appended to the lane, which may be refused and committed before its end is
  // known here: until appended() or not_appended() nothing is forgotten.
  void appending(spool::LaneIndex lane);
  // It was: watches may be for its end from now on, and for no end before.
  void appended(const BlockEnd& end);
  // Nothing came of it.
  void not_appended(spool::LaneIndex lane);
  // The ticket's ledger is told when in each of these lanes everything before the block's end is
  // committed; at once if it is so already, also of a commit that came before this call.
  // Before that it is told which of the chunk's own rows were refused; `rows` has no lines if the
  // chunk has none.
  // REQUIRES: each is the end of the block that was appended to its lane last, as appended() knows.
  void watch(std::span<const BlockEnd> ends, std::shared_ptr<AckLedger> ledger,
             AckLedger::Ticket ticket, ChunkRows rows = {});
  // The row at this position was refused for itself and is set aside; committed() will pass it.
  void refused(spool::LaneIndex lane, const spool::Position& row, std::string_view sqlstate);
  // Everything of the segment before the position is committed; index UINT64_MAX: all that it ever
  // will have. A position may come again after a failover that lost commits, and one of an older
  // segment after one of a newer.
  void committed(spool::LaneIndex lane, const spool::Position& upto);

  // How many refused rows are remembered: memory that is taken for them.
  [[nodiscard]] std::size_t refused_kept(spool::LaneIndex lane) const;

 private:
  struct Ticket {
    std::shared_ptr<AckLedger> ledger;
    AckLedger::Ticket number = 0;
    ChunkRows rows;
    std::atomic<std::size_t> ends_left{0};
  };
  struct Waiting {
    spool::Position end;
    std::uint64_t block_begin;  // index of the first row of the block that ends there
    std::shared_ptr<Ticket> ticket;
  };
  using Row = std::pair<spool::Uuid, std::uint64_t>;  // segment and index
  // A refused row of a watched chunk.
  struct RefusedLine {
    std::shared_ptr<Ticket> ticket;
    AckLedger::RefusedRow row;
  };
  // What was told of a segment last.
  struct Told {
    spool::Uuid segment;
    std::uint64_t upto = 0;

    [[nodiscard]] bool is_whole() const { return upto == UINT64_MAX; }
  };
  struct Lane {
    mutable std::mutex mutex;
    std::deque<Waiting> waiting;  // in the order in which their blocks were appended
    bool is_appending = false;
    std::optional<spool::Position> newest;  // the end of the block that was appended last
    std::uint64_t newest_begin = 0;         // the index of its first row
    std::vector<Told> told;  // of the newest segment, and of others that are not whole
    // With their SQLSTATEs: those that were refused since the last commit, and those of the newest
    // block and of blocks that a ticket waits for. However many pieces a block is committed in, the
    // watch of one of its chunks or its end may be yet to come.
    std::map<Row, std::string> refused;
  };

  static Told& told_of(Lane& lane, const spool::Uuid& segment);
  static bool is_newest(const Lane& lane, const spool::Uuid& segment);
  static void forget_refused(Lane& lane, const spool::Uuid& segment);
  static void forget_whole(Lane& lane);
  static void find_refused(spool::LaneIndex index, const Lane& lane,
                           const std::shared_ptr<Ticket>& ticket, std::vector<RefusedLine>& found);
  static void end_one(Ticket& ticket);

  std::vector<std::unique_ptr<Lane>> lanes_;
};

}  // namespace sluice::ingest
