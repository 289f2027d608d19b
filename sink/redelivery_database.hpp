// The database as who delivers set-aside events sees it: the steps of a lane up to W2, and then, in
// place of the watermark, `sluice.redelivered`.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "sink/database.hpp"
#include "spool/aside.hpp"

namespace sluice::sink {

// A record whose event is to be delivered.
struct AsideClaim {
  spool::Position event;
  // So old that the row of its segment's watermark may be gone. Nobody else delivers it then (a
  // lane quarantines such a segment), so it counts without one.
  bool outlived_watermark = false;
};

// What the database knows of it.
struct AsideStanding {
  spool::Position event;
  bool counts = false;     // its index is below its segment's watermark
  bool delivered = false;  // it is in `sluice.redelivered`
};

// A record that counts stays one: a watermark moves back only by a failover, which takes back
// everything that was committed after it as well. So it is read without its lock, and lanes do not
// wait for redeliveries.
//
// Thread: the sink's.
class RedeliveryDatabase : public Database {
 public:
  // Step: what is known of these.
  virtual void start_look_up(std::span<const AsideClaim> claims) = 0;
  // One for each claim, in any order.
  [[nodiscard]] virtual const std::vector<AsideStanding>& standings() const = 0;

  // Step W3 of a transaction whose rows are those of the claims: writes them into
  // `sluice.redelivered`, and commits. Fails, with nothing committed, if one does not count or was
  // delivered before. Done, and of unknown outcome, as Database::start_commit().
  virtual void start_redeliver(std::span<const AsideClaim> claims) = 0;

  // Step: how many rows `sluice.redelivered` has of each of these segments.
  virtual void start_count_redelivered(std::span<const spool::Uuid> segments) = 0;
  // Of those that have any, in any order.
  [[nodiscard]] virtual const std::vector<spool::RedeliveredCount>& redelivered_counts() const = 0;
  // Step: which these are of one segment.
  virtual void start_list_redelivered(const spool::Uuid& segment) = 0;
  // Rising.
  [[nodiscard]] virtual const std::vector<std::uint64_t>& redelivered_indexes() const = 0;
};

}  // namespace sluice::sink
