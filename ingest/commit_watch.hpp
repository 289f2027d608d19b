// Which chunks of connections that asked for "committed" wait for which position of which lane.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "ingest/ack_ledger.hpp"
#include "spool/spool.hpp"

namespace sluice::ingest {

// Threads: any; the journal watches, the sink tells.
class CommitWatch final {
 public:
  explicit CommitWatch(std::size_t lanes);
  CommitWatch(const CommitWatch&) = delete;
  CommitWatch& operator=(const CommitWatch&) = delete;

  // The ticket's ledger is told when everything before `end` is committed. Called in the order in
  // which blocks are appended to the lane.
  void watch(spool::LaneIndex lane, const spool::Position& end, std::shared_ptr<AckLedger> ledger,
             AckLedger::Ticket ticket);
  // Everything before the position is committed.
  void committed(spool::LaneIndex lane, const spool::Position& upto);

 private:
  struct Waiting {
    spool::Position end;
    std::shared_ptr<AckLedger> ledger;
    AckLedger::Ticket ticket;
  };
  struct Lane {
    std::mutex mutex;
    std::deque<Waiting> waiting;  // in the order of the lane's stream
  };
  std::vector<std::unique_ptr<Lane>> lanes_;
};

}  // namespace sluice::ingest
