// One run of the daemon's stages, wired as the daemon wires them and driven by hand: journal,
// dedupe window, producers' table, spool on disk, lanes.
#pragma once

#include <memory>
#include <vector>

#include "ingest/commit_watch.hpp"
#include "ingest/dedupe_window.hpp"
#include "ingest/event_queue.hpp"
#include "ingest/id_generator.hpp"
#include "ingest/ingest_counters.hpp"
#include "ingest/journal.hpp"
#include "sink/lane.hpp"
#include "spool/aside_log.hpp"
#include "spool/byte_budget.hpp"
#include "spool/disk_spool.hpp"
#include "spool/producer_table.hpp"
#include "tests/model/event_book.hpp"
#include "tests/model/tally.hpp"
#include "tests/model/watched_spool.hpp"
#include "tests/support/fake_disk.hpp"
#include "tests/unit/fake_database.hpp"

namespace sluice::model {

struct DaemonModelOptions {
  spool::DiskSpoolOptions spool;
  std::chrono::milliseconds sync_delay{0};
  std::uint64_t batch_rows_max = 10;
  std::uint64_t seed = 0;
};

// What a run meets, over all runs of a history.
struct World {
  EventBook book;
  Tally tally;
  tests::FakeServer server;
  bool power_was_cut = false;
  bool disk_failed = false;  // one of its calls
  bool was_full = false;     // then segments that are only kept for a failover go before their time
  bool trace = false;        // writes to stdout what the stages tell
};

// What FakeDisk throws (ProcessKilled) comes out of any call: the run is over then.
class DaemonModel final : private spool::SpoolReporter, private sink::LaneReporter {
 public:
  // Recovers the spool. REQUIRES: all outlive it.
  DaemonModel(const DaemonModelOptions& options, tests::FakeDisk& disk, World& world,
              const spool::SpoolTime& now);
  ~DaemonModel() override;

  [[nodiscard]] ingest::EventQueue& queue() { return queue_; }
  [[nodiscard]] spool::ByteBudget& budget() { return budget_; }
  [[nodiscard]] const spool::ProducerTable& producers() const { return producers_; }
  [[nodiscard]] std::size_t lanes() const { return lanes_.size(); }

  // It could not read a segment: only another start delivers that.
  [[nodiscard]] bool has_to_start_again() const { return has_unread_; }

  [[nodiscard]] ingest::Journal::Turn journal_turn(const spool::SpoolTime& now);
  [[nodiscard]] sink::Lane::Wait lane_turn(std::size_t lane, const spool::SpoolTime& now);
  void tend(const spool::SpoolTime& now) { spool_.tend(now); }
  // As at SIGTERM, after the journal's last turn.
  void close(const spool::SpoolTime& now) { spool_.close(now); }

  [[nodiscard]] std::uint64_t events_held() const { return spool_.events_held(); }
  [[nodiscard]] std::string why_full() const { return spool_.why_full(); }
  // The disk failed at the start: nothing that was there is told to be durable yet.
  [[nodiscard]] bool start_is_in_doubt() const {
    return why_full().find("of the last run") != std::string::npos;
  }
  [[nodiscard]] std::uint64_t duplicates() const { return counters_.duplicates; }

 private:
  struct LaneModel {
    LaneModel(const sink::LaneOptions& options, spool::SpoolReader& spool, World& world,
              sink::Breaker& breaker, sink::LaneReporter& reporter);

    WatchedReader reader;
    tests::FakeDatabase database;
    sink::Lane lane;
  };

  void say(const std::string& text) const;

  // spool::SpoolReporter
  void torn_tail(const spool::Uuid&, std::uint64_t) override;
  void quarantined(const spool::Uuid&, std::uint64_t, std::optional<std::uint64_t>,
                   std::uint64_t) override;
  void damaged_at_start(const spool::StartDamage&) override;
  void read_failed(const spool::Uuid&, std::uint64_t, std::error_code) override;
  void file_set_aside(const std::string& name, std::string_view reason) override;
  void segments_missing(std::uint64_t count) override;
  void segment_poisoned(const spool::Uuid&, std::string_view, std::error_code) override;
  void full(std::string_view) override;
  void room_again() override {}
  void synced(std::chrono::microseconds) override {}
  void keys_unwritten(const std::string&, std::string_view) override;
  void keys_lost(const std::string&, std::string_view) override;

  // sink::LaneReporter
  void state_changed(std::size_t, sink::LaneState) override {}
  void failed(std::size_t lane, std::string_view step, const sink::Failure& failure,
              std::chrono::milliseconds retry_in) override;
  void held(std::size_t lane, std::string_view step, const sink::Failure& failure,
            std::chrono::milliseconds retry_in) override;
  void recovered(std::size_t) override {}
  void batch_committed(std::size_t, const sink::CommittedBatch&) override {}
  void commit_unknown(std::size_t) override;
  void unknown_was_committed(std::size_t, std::uint64_t) override;
  void found_committed(std::size_t, std::uint64_t) override {}
  void row_set_aside(std::size_t, const spool::Position&, const sink::Failure&) override;
  void set_aside_committed(std::size_t, std::uint64_t) override {}
  void segment_forgotten(std::size_t, const spool::Uuid&, std::uint64_t) override;
  void commits_lost(std::size_t, const spool::Position& from, std::uint64_t events,
                    bool resent) override;

  World& world_;
  bool has_unread_ = false;  // before the spool, which tells of it when it is made
  spool::ByteBudget budget_;
  spool::ProducerTable producers_;
  ingest::CommitWatch commits_;
  spool::DiskSpool spool_;
  WatchedWriter writer_;
  ingest::DedupeWindow dedupe_;
  ingest::IdGenerator ids_;
  ingest::IngestCounters counters_;
  ingest::EventQueue queue_;
  ingest::Journal journal_;
  spool::AsideLog aside_;
  std::int64_t unix_now_us_;
  sink::Breaker breaker_;
  std::vector<std::unique_ptr<LaneModel>> lanes_;
};

}  // namespace sluice::model
