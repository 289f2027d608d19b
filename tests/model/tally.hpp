// The alphabet of the model's histories, and how often each letter of it happened: what was done to
// the daemon, and what came of it. A letter that never happens in a run is a test that tests
// nothing.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace sluice::model {

enum class Letter : std::uint8_t {
  // Done by the history.
  send,
  send_duplicate,
  named_resend,
  reconnect,
  journal_turn,
  lane_turn,
  idle_second,
  long_idle,
  database_trouble,
  failover,
  warned_commit,
  crash,
  kill_in_call,
  kill_in_recovery,
  power_cut,
  power_cut_in_recovery,
  stop,
  start_with_other_lanes,
  fail_sync,
  fail_write,
  fail_name,
  fail_read_at_start,
  disk_full,
  clone,
  restore,
  // What came of it.
  durable_ack,
  committed_ack,
  nack,
  duplicate,
  have_told,
  segment_made,
  segment_poisoned,
  segment_superseding,
  tail_in_doubt,
  start_in_doubt,
  segment_unread,
  torn_tail,
  spool_full,
  keys_unwritten,
  unknown_commit,
  unknown_was_committed,
  commits_lost,
  events_rewound,
  segment_deleted,
  row_set_aside,
  void_record,
};
inline constexpr std::array<std::string_view, 46> kLetterNames = {
    "send",
    "send a duplicate",
    "named producer sends again",
    "reconnect",
    "journal's turn",
    "lane's turn",
    "idle second",
    "long idle time",
    "database fails",
    "failover loses commits",
    "commit with a warning",
    "process crashes",
    "killed in a disk call",
    "killed in recovery",
    "power cut",
    "power cut in recovery",
    "stopped in order",
    "other number of lanes",
    "sync fails",
    "write fails",
    "name change fails",
    "read fails at start",
    "disk full",
    "directory cloned",
    "directory restored",
    "= ack, durable",
    "= ack, committed",
    "= nack",
    "= duplicate",
    "= have told",
    "= segment made",
    "= segment poisoned",
    "= segment superseding",
    "= tail in doubt at start",
    "= daemon in doubt",
    "= segment not read",
    "= torn tail",
    "= spool full",
    "= keys unwritten",
    "= commit unknown",
    "= unknown was committed",
    "= lost commits seen",
    "= events rewound",
    "= segment deleted",
    "= row set aside",
    "= void record",
};
static_assert(static_cast<std::size_t>(Letter::void_record) + 1 == kLetterNames.size());

class Tally {
 public:
  void add(Letter letter, std::uint64_t times = 1) {
    counts_[static_cast<std::size_t>(letter)] += times;
  }
  void add(const Tally& other) {
    for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
  }
  [[nodiscard]] std::uint64_t of(std::size_t letter) const { return counts_[letter]; }

 private:
  std::array<std::uint64_t, kLetterNames.size()> counts_{};
};

}  // namespace sluice::model
