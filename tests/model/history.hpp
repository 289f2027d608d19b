// A random history of the daemon, repeated by its seed: producers send, the stages take turns, and
// the disk, the database and the process fail. At the end everything is mended and delivered, and
// every promise is judged.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/model/daemon_model.hpp"
#include "tests/model/sender.hpp"
#include "tests/support/seeded_random.hpp"

namespace sluice::model {

// Thread: one.
class History final {
 public:
  // `trace`: writes each letter to stdout.
  History(std::uint64_t seed, bool trace);
  ~History();

  // Throws Broken.
  void run();
  [[nodiscard]] const Tally& tally() const { return world_.tally; }

 private:
  // A spool's directory, and what uses it.
  struct Machine {
    explicit Machine(std::uint64_t seed) : disk(seed) {}

    tests::FakeDisk disk;
    std::vector<std::unique_ptr<Sender>> senders;
    std::unique_ptr<DaemonModel> daemon;  // none: it has to be started
    std::size_t lanes = 2;
    std::set<std::string> segments;  // files, at the last count
  };
  // The next call of a kind fails.
  struct DiskFault {
    Letter letter;
    std::uint64_t calls_before;
    int error;
    std::uint64_t times;
  };

  void choose_settings();
  void add_machine();
  void act();
  [[nodiscard]] Letter next_letter();
  void perform(Letter letter, Machine& machine);
  template <typename Work>
  void in_process(Machine& machine, Work&& work);

  void start(Machine& machine);
  void end_process(Machine& machine);
  void crash(Machine& machine, bool power_cut);
  void stop(Machine& machine);
  void connect(Machine& machine, Sender& sender);
  void connect_senders(Machine& machine);
  void clone(Machine& machine);
  void restore(Machine& machine);
  void fail_over();

  void send(Machine& machine, Letter letter);
  void journal_turns(Machine& machine);
  void lane_turns(Machine& machine);
  void idle(std::int64_t ms);
  [[nodiscard]] bool one_round(Machine& machine);

  [[nodiscard]] std::error_code disk_fault(tests::FakeDisk::Call call, const std::string& name);
  [[nodiscard]] tests::Fate database_fate(tests::Step step);
  [[nodiscard]] bool is_stored(std::uint64_t number);
  void count_segments(Machine& machine);

  void mend();
  void drain();
  [[nodiscard]] bool is_drained() const;
  [[nodiscard]] std::string state_of_machines() const;
  [[nodiscard]] std::vector<std::uint32_t> count_stored();
  void count_set_aside(const Machine& machine, std::set<spool::Position>& seen,
                       std::vector<std::uint32_t>& counts);
  void judge();

  tests::SeededRandom random_;
  const bool trace_;
  World world_;
  DaemonModelOptions options_;
  std::vector<std::unique_ptr<Machine>> machines_;
  std::size_t senders_made_ = 0;
  spool::SpoolTime now_{1'700'000'000'000'000, 1'000'000};

  bool calm_ = false;  // nothing fails any more
  std::optional<DiskFault> disk_fault_;
  // Of segments in a start: so many succeed, then so many fail.
  std::optional<std::pair<std::uint64_t, std::uint64_t>> reads_to_fail_;
  std::uint64_t database_trouble_ = 0;  // steps that may still fail
  std::uint64_t warnings_ = 0;          // of writes to come
  std::int64_t settled_at_ms_ = 0;
  std::size_t settled_changes_ = 0;  // of server.history when settled_at_ms_ was
  std::uint64_t stored_seen_ = 0;    // of server.table
  std::vector<bool> stored_;         // by number, of the table's first stored_seen_
  std::uint64_t disk_faults_ = 0;    // that ever happened
  bool copied_ = false;  // a spool was cloned or restored: a position may be delivered elsewhere
  bool lost_commits_ = false;               // a failover's, and the lanes had no quiet time since
  std::vector<std::uint64_t> failed_over_;  // events that a failover lost
  std::unique_ptr<tests::FakeDisk> backup_;
};

}  // namespace sluice::model
