#include "tests/model/history.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "spool/aside_line.hpp"
#include "spool/segment_format.hpp"

namespace sluice::model {

using tests::FakeDisk;
using tests::Fate;
using tests::Step;

namespace {

struct Weighted {
  Letter letter;
  unsigned weight;
};
constexpr std::array kWeights = {
    Weighted{Letter::send, 40},
    Weighted{Letter::send_duplicate, 5},
    Weighted{Letter::named_resend, 2},
    Weighted{Letter::reconnect, 4},
    Weighted{Letter::journal_turn, 30},
    Weighted{Letter::lane_turn, 40},
    Weighted{Letter::idle_second, 6},
    Weighted{Letter::long_idle, 1},
    Weighted{Letter::database_trouble, 5},
    Weighted{Letter::failover, 2},
    Weighted{Letter::warned_commit, 2},
    Weighted{Letter::crash, 2},
    Weighted{Letter::kill_in_call, 4},
    Weighted{Letter::power_cut, 2},
    Weighted{Letter::stop, 2},
    Weighted{Letter::fail_sync, 2},
    Weighted{Letter::fail_write, 2},
    Weighted{Letter::fail_name, 2},
    Weighted{Letter::disk_full, 2},
    Weighted{Letter::clone, 1},
    Weighted{Letter::restore, 2},
};
constexpr unsigned total_weight() {
  unsigned total = 0;
  for (const Weighted& each : kWeights) total += each.weight;
  return total;
}

// More than all deadlines and backoffs of a lane that a failing database can make pass.
constexpr std::int64_t kRetainMs = 600'000;
// A commit that is twice as old is on every standby: no failover loses it.
constexpr std::int64_t kSettledMs = 30'000;
constexpr std::int64_t kCheckMs = 12'000;  // the lanes have looked at what they delivered
constexpr int kRoundsMax = 4'000;

bool is_of(Letter letter, FakeDisk::Call call) {
  switch (letter) {
    case Letter::fail_sync:
      return call == FakeDisk::Call::sync;
    case Letter::fail_write:
      return call == FakeDisk::Call::write || call == FakeDisk::Call::truncate;
    default:
      return call == FakeDisk::Call::rename || call == FakeDisk::Call::remove ||
             call == FakeDisk::Call::sync_directory;
  }
}

}  // namespace

History::History(std::uint64_t seed, bool trace) : random_(seed), trace_(trace) {
  world_.trace = trace;
  choose_settings();
  add_machine();
  world_.server.fate = [this](Step step) { return database_fate(step); };
  world_.server.zombie_commits = [this] { return random_.once_in(2); };
}

History::~History() {
  for (const auto& machine : machines_) end_process(*machine);
}

void History::choose_settings() {
  options_.spool.lanes = random_.between(1, 3);
  options_.spool.durability =
      random_.once_in(5) ? spool::Durability::process : spool::Durability::power;
  options_.spool.segment_bytes = random_.between(1'000, 8'000);
  options_.spool.bytes_max = random_.once_in(3) ? (1 << 20) + 20'000 : 64 << 20;
  options_.spool.reserve_bytes = 4096;
  options_.spool.retain_time = std::chrono::milliseconds(kRetainMs);
  options_.spool.cached_bytes_max = random_.once_in(2) ? 0 : random_.below(10'000);
  options_.sync_delay = std::chrono::milliseconds(random_.below(3));
  options_.batch_rows_max = random_.between(1, 30);
}

void History::add_machine() {
  machines_.push_back(std::make_unique<Machine>(random_.next()));
  Machine& machine = *machines_.back();
  machine.disk.fault = [this](FakeDisk::Call call, const std::string& name) {
    return disk_fault(call, name);
  };
  machine.lanes = options_.spool.lanes;
  const std::size_t first = random_.below(kSenderKinds);
  for (std::size_t i = random_.between(2, 4); i > 0; --i) {
    machine.senders.push_back(std::make_unique<Sender>(
        static_cast<SenderKind>((first + i) % kSenderKinds), senders_made_++, world_.book,
        world_.tally, random_, [this](std::uint64_t number) { return is_stored(number); }));
  }
}

void History::run() {
  for (std::uint64_t number = random_.below(60); number < 300; number += random_.between(1, 60)) {
    world_.server.refused_rows.push_back(number);
  }
  for (std::uint64_t letters = random_.between(20, 120); letters > 0; --letters) act();
  drain();
  judge();
  if (random_.once_in(2)) return;
  // What was delivered stays delivered, and what is kept for a failover is not delivered again.
  for (const auto& machine : machines_) {
    crash(*machine, options_.spool.durability == spool::Durability::power);
  }
  drain();
  judge();
}

void History::act() {
  Machine& machine = *machines_[random_.below(machines_.size())];
  if (!machine.daemon) return start(machine);
  const Letter letter = next_letter();
  if (trace_) {
    std::printf("  %-28s machine %d, %.3f s, %zu events\n",
                kLetterNames[static_cast<std::size_t>(letter)].data(),
                &machine != machines_[0].get(), double(now_.steady_ms) / 1000,
                world_.book.all().size());
  }
  perform(letter, machine);
}

Letter History::next_letter() {
  for (;;) {
    std::uint64_t at = random_.below(total_weight());
    std::size_t i = 0;
    while (at >= kWeights[i].weight) at -= kWeights[i++].weight;
    const Letter letter = kWeights[i].letter;
    const bool fails_disk = letter == Letter::fail_sync || letter == Letter::fail_write ||
                            letter == Letter::fail_name || letter == Letter::disk_full;
    // A segment whose tail is in doubt is written again under another identity; where a copy of it
    // lives elsewhere, both are delivered. Nobody promises otherwise.
    if (fails_disk && copied_) continue;
    // What was acked at the durability `process` was never synced: a sync that fails may lose it.
    if (letter == Letter::fail_sync && options_.spool.durability != spool::Durability::power) {
      continue;
    }
    if (letter == Letter::clone && (disk_faults_ > 0 || machines_.size() > 1)) continue;
    if (letter == Letter::restore && (disk_faults_ > 0 || lost_commits_)) continue;
    // What a failover lost comes back as long as the segments are kept.
    if (lost_commits_ && (letter == Letter::long_idle || letter == Letter::database_trouble)) {
      continue;
    }
    if (letter == Letter::failover && copied_) continue;
    if (letter == Letter::power_cut && options_.spool.durability != spool::Durability::power) {
      continue;
    }
    return letter;
  }
}

void History::perform(Letter letter, Machine& machine) {
  switch (letter) {
    case Letter::send:
    case Letter::send_duplicate:
    case Letter::named_resend:
    case Letter::reconnect:
      return send(machine, letter);
    case Letter::journal_turn:
      return journal_turns(machine);
    case Letter::lane_turn:
      return lane_turns(machine);
    case Letter::idle_second:
      world_.tally.add(letter);
      return idle(1'000);
    case Letter::long_idle:
      world_.tally.add(letter);
      for (int i = 0; i < 4; ++i) idle(kRetainMs / 3);
      return;
    case Letter::database_trouble:
      database_trouble_ = random_.between(1, 6);
      return;
    case Letter::failover:
      return fail_over();
    case Letter::warned_commit:
      warnings_ = random_.between(1, 3);
      return;
    case Letter::crash:
      world_.tally.add(letter);
      return crash(machine, false);
    case Letter::power_cut:
      world_.tally.add(letter);
      return crash(machine, true);
    case Letter::kill_in_call:
      machine.disk.kill_at = machine.disk.calls() + random_.between(1, 25);
      return;
    case Letter::stop:
      world_.tally.add(letter);
      return stop(machine);
    case Letter::fail_sync:
    case Letter::fail_write:
    case Letter::fail_name:
      disk_fault_ = {letter, random_.below(3), random_.once_in(3) ? ENOSPC : EIO,
                     random_.once_in(3) ? random_.between(2, 8) : 1};
      return;
    case Letter::disk_full:
      world_.tally.add(letter);
      machine.disk.capacity_bytes = machine.disk.used_bytes() + random_.below(3'000);
      return;
    case Letter::clone:
      return clone(machine);
    case Letter::restore:
      return restore(machine);
    default:
      return;
  }
}

// Runs stages of the machine's daemon; they may not survive it.
template <typename Work>
void History::in_process(Machine& machine, Work&& work) {
  try {
    work(*machine.daemon);
  } catch (const FakeDisk::ProcessKilled&) {
    world_.tally.add(Letter::kill_in_call);
    if (trace_) std::printf("    killed\n");
    const bool power_cut =
        options_.spool.durability == spool::Durability::power && random_.once_in(3);
    if (power_cut) world_.tally.add(Letter::power_cut);
    if (trace_ && power_cut) std::printf("    and the power is cut\n");
    crash(machine, power_cut);
  }
}

// The life of a process.

void History::start(Machine& machine) {
  if (!calm_ && random_.once_in(4)) {
    machine.disk.kill_at = machine.disk.calls() + random_.between(1, 60);
  }
  DaemonModelOptions options = options_;
  options.seed = random_.next() | 1;
  if (random_.once_in(4)) {
    options.spool.lanes = random_.between(1, 4);
    if (options.spool.lanes != machine.lanes) world_.tally.add(Letter::start_with_other_lanes);
    machine.lanes = options.spool.lanes;
  }
  options.spool.lanes = machine.lanes;
  const std::uint64_t faults_before = disk_faults_;
  ++world_.book.run;
  if (!calm_ && random_.once_in(10)) {
    reads_to_fail_ = {random_.below(20), random_.once_in(2) ? 1 : random_.between(2, 10)};
  }
  try {
    machine.daemon = std::make_unique<DaemonModel>(options, machine.disk, world_, now_);
    reads_to_fail_.reset();
    machine.disk.kill_at = 0;
  } catch (const FakeDisk::ProcessKilled&) {
    reads_to_fail_.reset();
    world_.tally.add(Letter::kill_in_recovery);
    if (trace_) std::printf("    killed in recovery\n");
    if (options_.spool.durability == spool::Durability::power && random_.once_in(2)) {
      world_.tally.add(Letter::power_cut_in_recovery);
      machine.disk.power_cut();
      world_.power_was_cut = true;
    }
    machine.disk.restart();
    return;
  } catch (const spool::SpoolUnusable&) {
    reads_to_fail_.reset();
    if (disk_faults_ == faults_before) throw;
    return;
  }
  if (machine.daemon->start_is_in_doubt()) world_.tally.add(Letter::start_in_doubt);
  connect_senders(machine);
}

void History::end_process(Machine& machine) {
  for (const auto& sender : machine.senders) sender->disconnect();
  machine.daemon.reset();
}

void History::crash(Machine& machine, bool power_cut) {
  machine.disk.crash();
  count_segments(machine);
  (void)count_stored();  // of the set-aside records, how many are void now
  end_process(machine);
  if (power_cut) {
    machine.disk.power_cut();
    world_.power_was_cut = true;
  }
  machine.disk.restart();
}

void History::stop(Machine& machine) {
  in_process(machine, [&](DaemonModel& daemon) {
    for (int i = 0; i < 100; ++i) {
      if (daemon.journal_turn(now_).result != ingest::Journal::Result::worked) break;
    }
    daemon.close(now_);
  });
  if (machine.daemon) crash(machine, false);
}

void History::connect(Machine& machine, Sender& sender) {
  DaemonModel& daemon = *machine.daemon;
  sender.connect(daemon.queue(), daemon.budget(), daemon.producers(), daemon.start_is_in_doubt());
}

void History::connect_senders(Machine& machine) {
  for (const auto& sender : machine.senders) {
    connect(machine, *sender);
  }
}

void History::clone(Machine& machine) {
  world_.tally.add(Letter::clone);
  crash(machine, false);
  copied_ = true;
  disk_fault_.reset();
  machine.disk.capacity_bytes = UINT64_MAX;
  add_machine();
  machines_.back()->disk.copy_from(machines_.front()->disk);
  // What was written and not acked may live on in one of the two: sent again to the other, it would
  // be there twice.
  for (const auto& sender : machine.senders) sender->start_over();
}

// The first time a copy of the directory is taken, the second time it takes the directory's place.
void History::restore(Machine& machine) {
  if (&machine != machines_.front().get()) return;
  if (!backup_) {
    backup_ = std::make_unique<FakeDisk>();
    backup_->copy_from(machine.disk);
    return;
  }
  world_.tally.add(Letter::restore);
  crash(machine, false);
  copied_ = true;
  disk_fault_.reset();
  machine.disk.capacity_bytes = UINT64_MAX;
  machine.disk.copy_from(*backup_);
  const auto stored = count_stored();
  auto& events = world_.book.all();
  for (std::size_t number = 0; number < events.size(); ++number) {
    if (stored[number] == 0) events[number].may_be_lost = true;
  }
  for (const auto& sender : machine.senders) sender->start_over();
}

void History::fail_over() {
  tests::FakeServer& server = world_.server;
  const std::size_t lost = std::min<std::size_t>(random_.between(1, 5), server.history.size());
  if (lost == 0) return;
  world_.tally.add(Letter::failover);
  server.behind_pooler = random_.once_in(3);
  const std::vector<std::uint32_t> before = count_stored();
  server.fail_over(lost);
  const std::vector<std::uint32_t> after = count_stored();
  for (std::size_t number = 0; number < before.size(); ++number) {
    if (after[number] < before[number]) failed_over_.push_back(number);
  }
  lost_commits_ = true;
  database_trouble_ = 0;
  stored_.clear();
  stored_seen_ = 0;
}

// The stages' turns.

void History::send(Machine& machine, Letter letter) {
  Sender& sender = *machine.senders[random_.below(machine.senders.size())];
  if (letter == Letter::send_duplicate && sender.can_send_duplicates()) {
    world_.tally.add(letter);
    return sender.send_duplicates(now_.unix_us);
  }
  if (letter == Letter::named_resend && sender.kind() == SenderKind::named) {
    sender.forget_have();
    world_.tally.add(letter);
  }
  if (letter == Letter::reconnect || letter == Letter::named_resend) {
    world_.tally.add(Letter::reconnect);
    connect(machine, sender);
  }
  world_.tally.add(Letter::send);
  sender.send(now_.unix_us);
}

void History::journal_turns(Machine& machine) {
  in_process(machine, [&](DaemonModel& daemon) {
    for (std::uint64_t turns = random_.between(1, 4); turns > 0; --turns) {
      world_.tally.add(Letter::journal_turn);
      const ingest::Journal::Turn turn = daemon.journal_turn(now_);
      if (turn.result == ingest::Journal::Result::gathering && random_.once_in(2)) {
        idle(std::max<std::int64_t>(0, turn.until_ms - now_.steady_ms));
      }
    }
  });
}

void History::lane_turns(Machine& machine) {
  const std::size_t lane = random_.below(machine.daemon->lanes());
  in_process(machine, [&](DaemonModel& daemon) {
    for (std::uint64_t turns = random_.between(1, 10); turns > 0; --turns) {
      world_.tally.add(Letter::lane_turn);
      const sink::Lane::Wait wait = daemon.lane_turn(lane, now_);
      if (!wait.until) continue;
      const std::int64_t wait_ms =
          wait.until->time_since_epoch() / std::chrono::milliseconds(1) - now_.steady_ms;
      if (wait_ms > 0 && random_.once_in(2)) idle(wait_ms);
    }
  });
}

void History::idle(std::int64_t ms) {
  now_.steady_ms += ms;
  now_.unix_us += ms * 1'000;
  if (now_.steady_ms - settled_at_ms_ < kSettledMs) return;
  settled_at_ms_ = now_.steady_ms;
  auto& changes = world_.server.history;
  const std::size_t settled = std::min(settled_changes_, changes.size());
  changes.erase(changes.begin(), changes.begin() + static_cast<std::ptrdiff_t>(settled));
  world_.server.replicated -= std::min(world_.server.replicated, settled);
  settled_changes_ = changes.size();
}

// Faults.

std::error_code History::disk_fault(FakeDisk::Call call, const std::string& name) {
  if (reads_to_fail_ && call == FakeDisk::Call::read && name.ends_with(".log")) {
    if (reads_to_fail_->first > 0) {
      --reads_to_fail_->first;
    } else if (reads_to_fail_->second > 0) {
      --reads_to_fail_->second;
      world_.tally.add(Letter::fail_read_at_start);
      return {EIO, std::system_category()};
    }
  }
  if (!disk_fault_ || !is_of(disk_fault_->letter, call)) return {};
  if (disk_fault_->calls_before > 0) {
    --disk_fault_->calls_before;
    return {};
  }
  const DiskFault fault = *disk_fault_;
  if (--disk_fault_->times == 0) disk_fault_.reset();
  world_.tally.add(fault.letter);
  ++disk_faults_;
  if (trace_) std::printf("    disk call %d fails\n", static_cast<int>(call));
  world_.disk_failed = true;
  return {fault.error, std::system_category()};
}

Fate History::database_fate(Step step) {
  if (warnings_ > 0 && (step == Step::commit || step == Step::confirm)) {
    --warnings_;
    world_.tally.add(Letter::warned_commit);
    return Fate::warned;
  }
  if (database_trouble_ == 0 || (step == Step::rows && !random_.once_in(8))) return Fate::fine;
  constexpr std::array kFates = {Fate::fine,         Fate::slow,      Fate::refused,
                                 Fate::cut,          Fate::cut_after, Fate::frozen,
                                 Fate::frozen_after, Fate::late,      Fate::on_the_way};
  const Fate fate = kFates[random_.below(kFates.size())];
  if (fate == Fate::fine) return fate;
  --database_trouble_;
  world_.tally.add(Letter::database_trouble);
  constexpr std::array kRefusals = {"40001", "55P03", "53200", "57014", "57P01"};
  world_.server.refusal.sqlstate = kRefusals[random_.below(kRefusals.size())];
  return fate;
}

bool History::is_stored(std::uint64_t number) {
  const auto& table = world_.server.table;
  for (; stored_seen_ < table.size(); ++stored_seen_) {
    if (stored_.size() <= table[stored_seen_]) stored_.resize(table[stored_seen_] + 1);
    stored_[table[stored_seen_]] = true;
  }
  // What a failover lost was committed once, and will be again.
  if (lost_commits_ || (number < stored_.size() && stored_[number])) return true;
  return count_stored()[number] > 0;
}

// The end.

void History::mend() {
  calm_ = true;
  disk_fault_.reset();
  database_trouble_ = 0;
  warnings_ = 0;
  for (const auto& machine : machines_) machine->disk.capacity_bytes = UINT64_MAX;
}

void History::drain() {
  mend();
  std::int64_t quiet_since_ms = now_.steady_ms;
  for (int round = 0; round < kRoundsMax; ++round) {
    bool worked = false;
    for (const auto& machine : machines_) worked = one_round(*machine) || worked;
    if (worked) {
      quiet_since_ms = now_.steady_ms;
      idle(20);
      continue;
    }
    const bool was_checked = !lost_commits_ || now_.steady_ms - quiet_since_ms > kCheckMs;
    if (was_checked && is_drained()) {
      lost_commits_ = false;
      calm_ = false;
      return;
    }
    idle(100);
  }
  throw Broken("not everything was delivered although nothing fails any more:" +
               state_of_machines());
}

std::string History::state_of_machines() const {
  std::string state;
  for (const auto& machine : machines_) {
    if (!machine->daemon) {
      state += " [no daemon]";
      continue;
    }
    state += " [held " + std::to_string(machine->daemon->events_held());
    const std::string why_full = machine->daemon->why_full();
    if (!why_full.empty()) state += ", " + why_full;
    for (const auto& sender : machine->senders) {
      if (!sender->is_answered()) {
        state += ", kind " + std::to_string(static_cast<int>(sender->kind())) + " waits";
      }
    }
    state += "]";
  }
  return state;
}

bool History::is_drained() const {
  return std::all_of(machines_.begin(), machines_.end(), [](const auto& machine) {
    return machine->daemon && machine->daemon->events_held() == 0 &&
           !machine->daemon->start_is_in_doubt() &&
           std::all_of(machine->senders.begin(), machine->senders.end(),
                       [](const auto& sender) { return sender->is_answered(); });
  });
}

// Whether anything was done but waiting.
bool History::one_round(Machine& machine) {
  if (!machine.daemon) {
    start(machine);
    return true;
  }
  if (machine.daemon->has_to_start_again()) {
    crash(machine, false);
    return true;
  }
  bool worked = false;
  in_process(machine, [&](DaemonModel& daemon) {
    for (const auto& sender : machine.senders) {
      while (sender->has_to_send_again()) {
        sender->send(now_.unix_us);
        worked = true;
      }
    }
    for (int i = 0; i < 50; ++i) {
      if (daemon.journal_turn(now_).result != ingest::Journal::Result::worked) break;
      worked = true;
    }
    daemon.tend(now_);
    for (std::size_t lane = 0; lane < daemon.lanes(); ++lane) {
      for (int i = 0; i < 50; ++i) {
        const sink::Lane::Wait wait = daemon.lane_turn(lane, now_);
        const sink::Clock::time_point at{std::chrono::milliseconds(now_.steady_ms)};
        if (!wait.until || *wait.until > at) break;
      }
    }
  });
  return worked;
}

// What became of the segments' files since the last look.
void History::count_segments(Machine& machine) {
  std::set<std::string> now;
  for (const std::string& name : machine.disk.names()) {
    if (!name.starts_with("seg-") || !name.ends_with(".log")) continue;
    now.insert(name);
    if (machine.segments.contains(name)) continue;
    world_.tally.add(Letter::segment_made);
    const std::vector<std::byte> content = machine.disk.content(name);
    if (content.size() < spool::kSegmentHeaderBytes) continue;
    const auto header = spool::decode_segment_header(content);
    const auto* segment = std::get_if<spool::SegmentHeader>(&header);
    if (segment && segment->does_supersede()) world_.tally.add(Letter::segment_superseding);
  }
  for (const std::string& name : machine.segments) {
    if (!now.contains(name)) world_.tally.add(Letter::segment_deleted);
  }
  machine.segments = std::move(now);
}

// How often each event is in the table, or in a set-aside record that counts.
std::vector<std::uint32_t> History::count_stored() {
  std::vector<std::uint32_t> counts(world_.book.all().size());
  for (const std::uint64_t number : world_.server.table) ++counts.at(number);
  std::set<spool::Position> seen;  // a record may be there twice: in a clone, or written again
  for (const auto& machine : machines_) count_set_aside(*machine, seen, counts);
  return counts;
}

void History::count_set_aside(const Machine& machine, std::set<spool::Position>& seen,
                              std::vector<std::uint32_t>& counts) {
  for (const std::string& name : machine.disk.names()) {
    if (!name.starts_with("aside/")) continue;
    const std::vector<std::byte> content = machine.disk.content(name);
    const std::string_view text(reinterpret_cast<const char*>(content.data()), content.size());
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = std::min(text.find('\n', at), text.size());
      const std::string_view line = text.substr(at, end - at);
      at = end + 1;
      const auto head = spool::aside_head(line);
      const auto number = line.find("\\\"n\\\":");
      if (!head || end == text.size() || number == std::string_view::npos) continue;
      const std::uint64_t* const watermark = world_.server.watermarks.find(head->position.segment);
      if (watermark == nullptr || head->position.index >= *watermark) {
        world_.tally.add(Letter::void_record);
      } else if (seen.insert(head->position).second) {
        ++counts.at(std::strtoull(line.data() + number + 6, nullptr, 10));
      }
    }
  }
}

void History::judge() {
  if (world_.was_full) {
    for (const std::uint64_t number : failed_over_) world_.book.at(number).may_be_lost = true;
  }
  const std::vector<std::uint32_t> stored = count_stored();
  const auto& events = world_.book.all();
  for (std::size_t number = 0; number < events.size(); ++number) {
    const SentEvent& event = events[number];
    const std::string name =
        "event " + std::to_string(number) + " of sender " + std::to_string(event.sender);
    if (stored[number] == 0 && event.promised && !event.may_be_lost) {
      throw Broken(name + " was acked and is lost");
    }
    if (stored[number] > 1 && !event.may_be_twice) {
      throw Broken(name + " is there " + std::to_string(stored[number]) + " times");
    }
  }
}

}  // namespace sluice::model
