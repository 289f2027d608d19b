// A model of the server for tests of the lane and of the whole: a table, watermarks, and a fate for
// every step. Made for thousands of histories a second: vectors, and no search that grows with the
// table.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "sink/database.hpp"
#include "tests/unit/event_fixture.hpp"

namespace sluice::tests {

enum class Step { connect, describe, resolve, copy, rows, finish, commit, confirm, check };

enum class Fate {
  fine,
  slow,          // fine, after a while
  refused,       // the server answers with an error
  cut,           // the connection is lost before the step took effect
  cut_after,     // the same after it took effect
  frozen,        // no answer ever, no effect
  frozen_after,  // no answer ever, but the effect
  late,  // of a commit: no answer, and the transaction holds the watermark's lock until it is asked
         // for; whether it took effect is decided then
  on_the_way,  // of a commit: no answer; it reaches the server when other steps have run
  warned,      // of what writes: it took effect, with the warning that it was committed locally
};

// A map by segment for the few that a test has: the newest are found first.
template <typename Value>
class SegmentMap {
 public:
  using Entry = std::pair<spool::Uuid, Value>;

  [[nodiscard]] Value* find(const spool::Uuid& segment) {
    const auto found = std::find_if(entries_.rbegin(), entries_.rend(),
                                    [&](const Entry& entry) { return entry.first == segment; });
    return found == entries_.rend() ? nullptr : &found->second;
  }
  Value& operator[](const spool::Uuid& segment) {
    if (Value* const found = find(segment)) return *found;
    return entries_.emplace_back(segment, Value{}).second;
  }
  void erase(const spool::Uuid& segment) {
    std::erase_if(entries_, [&](const Entry& entry) { return entry.first == segment; });
  }
  void clear() { entries_.clear(); }
  [[nodiscard]] bool empty() const { return entries_.empty(); }
  [[nodiscard]] std::size_t size() const { return entries_.size(); }
  // In the order in which they came.
  [[nodiscard]] auto begin() { return entries_.begin(); }
  [[nodiscard]] auto end() { return entries_.end(); }

 private:
  std::vector<Entry> entries_;
};

// What the sessions of all lanes share. A test may change what it likes between two turns.
struct FakeServer {
  struct Zombie {
    std::uint64_t from;
    std::uint64_t upto;
    std::vector<std::uint64_t> numbers;
  };
  // One transaction that changed something, so that it can be taken back.
  struct Change {
    spool::Uuid segment;
    std::optional<std::uint64_t> watermark_before;  // none: it made the row
    std::size_t rows_before;                        // of the table
  };

  std::vector<std::uint64_t> table;  // the events' numbers, in the order of commits
  SegmentMap<std::uint64_t> watermarks;
  SegmentMap<Zombie> zombies;     // hold their watermark's lock
  SegmentMap<Zombie> on_the_way;  // hold nothing yet
  std::vector<sink::CatalogColumn> columns = {{"id", "uuid", sink::ColumnType::uuid}};

  std::function<Fate(Step)> fate = [](Step) { return Fate::fine; };
  std::set<spool::Uuid> locked;  // watermarks that somebody holds the lock of for ever
  std::function<bool()> zombie_commits = [] { return true; };
  sink::Failure refusal{"40001", "as the test wants it", ""};
  std::uint64_t rows_swallowed = 0;         // of each COPY
  std::vector<std::uint64_t> refused_rows;  // numbers, sorted: the table's constraint refuses them
  bool behind_pooler = false;          // connections live through a failover, transactions do not
  std::vector<Step> steps;             // every step that was started
  std::vector<std::uint64_t> batches;  // rows of each commit that took effect
  std::vector<Change> history;
  std::size_t replicated = 0;    // that many of history are on every standby
  std::uint64_t generation = 0;  // the server's: another one after each failover

  // W3 of a session that nobody listens to any more.
  void run(const spool::Uuid& segment, const Zombie& zombie) {
    const std::uint64_t* const upto = watermarks.find(segment);
    if (upto != nullptr && *upto == zombie.from) commit(segment, zombie.upto, zombie.numbers);
  }
  void commit(const spool::Uuid& segment, std::uint64_t upto,
              const std::vector<std::uint64_t>& numbers) {
    move_watermark(segment, upto);
    table.insert(table.end(), numbers.begin(), numbers.end());
    batches.push_back(numbers.size());
  }
  void move_watermark(const spool::Uuid& segment, std::uint64_t upto) {
    const std::uint64_t* const before = watermarks.find(segment);
    history.push_back(
        {segment, before == nullptr ? std::nullopt : std::optional(*before), table.size()});
    watermarks[segment] = upto;
  }

  // Another server takes over that never saw the last `changes` of history. Sessions of the old one
  // end with it; those that a pooler hides from it lose the transaction that they are in.
  void fail_over(std::size_t changes) {
    for (; changes > 0 && !history.empty(); --changes) {
      const Change& last = history.back();
      table.resize(last.rows_before);
      if (last.watermark_before) {
        watermarks[last.segment] = *last.watermark_before;
      } else {
        watermarks.erase(last.segment);
      }
      history.pop_back();
    }
    replicated = std::min(replicated, history.size());
    zombies.clear();
    on_the_way.clear();
    ++generation;
  }
  // What a synchronous standby would lack: the changes behind the last one without a warning.
  [[nodiscard]] std::size_t unreplicated() const { return history.size() - replicated; }
  [[nodiscard]] bool refuses(std::uint64_t number) const {
    return std::binary_search(refused_rows.begin(), refused_rows.end(), number);
  }
};

// One lane's connection to it. The rows must have the event's id as their first column.
class FakeDatabase final : public sink::Database {
 public:
  explicit FakeDatabase(FakeServer& server) : server_(server) {}

  void start_connect() override {
    start(Step::connect);
    generation_ = server_.generation;
  }
  void start_describe() override { start(Step::describe); }
  [[nodiscard]] const std::vector<sink::CatalogColumn>& columns() const override {
    return server_.columns;
  }
  void start_resolve(const spool::Uuid& segment, sink::IfMissing if_missing) override {
    segment_ = segment;
    if_missing_ = if_missing;
    start(Step::resolve);
  }
  [[nodiscard]] std::optional<std::uint64_t> resolved_upto() const override {
    return resolved_upto_;
  }
  void start_copy(std::span<const std::string>) override {
    stream_.clear();
    start(Step::copy);
  }
  void send_rows(std::span<const std::byte> bytes) override {
    stream_.insert(stream_.end(), bytes.begin(), bytes.end());
  }
  [[nodiscard]] bool ready_for_rows() override {
    if (failed_over()) {
      (void)lose_connection();
      return true;
    }
    if (rows_fate_ == Fate::fine) rows_fate_ = server_.fate(Step::rows);
    switch (rows_fate_) {
      case Fate::slow:
        rows_fate_ = Fate::fine;
        return false;
      case Fate::frozen:
      case Fate::frozen_after:
      case Fate::late:
      case Fate::on_the_way:
        return false;
      case Fate::refused:
      case Fate::cut:
      case Fate::cut_after:
        interrupted_ = true;
        return true;
      case Fate::fine:
      case Fate::warned:
        return true;
    }
    return true;
  }
  [[nodiscard]] bool interrupted() const override { return interrupted_; }
  void start_finish_copy() override {
    start(Step::finish);
    if (interrupted_) fate_ = rows_fate_;
  }
  [[nodiscard]] std::uint64_t rows_copied() const override {
    return staged_.size() - std::min<std::uint64_t>(staged_.size(), server_.rows_swallowed);
  }
  void start_commit(const spool::Uuid& segment, std::uint64_t from, std::uint64_t upto,
                    std::uint64_t rows) override {
    segment_ = segment;
    from_ = from;
    upto_ = upto;
    rows_ = rows;
    start(Step::commit);
    commit_may_have_left_ = true;
  }
  [[nodiscard]] bool commit_may_have_left() const override { return commit_may_have_left_; }
  void start_confirm(const spool::Position& upto) override {
    segment_ = upto.segment;
    upto_ = upto.index;
    start(Step::confirm);
  }
  void start_check(std::span<const spool::Uuid> segments) override {
    asked_.assign(segments.begin(), segments.end());
    start(Step::check);
  }
  [[nodiscard]] const std::vector<spool::Position>& watermarks() const override {
    return watermarks_;
  }
  [[nodiscard]] bool still_open() override {
    if (std::exchange(closed_by_server, false)) connected_ = false;
    if (connected_ && generation_ != server_.generation) {
      connected_ = server_.behind_pooler;
      generation_ = server_.generation;
    }
    return connected_;
  }

  [[nodiscard]] sink::Progress advance() override {
    if (failed_over()) return lose_connection();
    switch (fate_) {
      case Fate::fine:
        return take_effect();
      case Fate::slow:
        fate_ = Fate::fine;
        return sink::Progress::working;
      case Fate::refused:
        commit_may_have_left_ = false;
        failure_ = server_.refusal;
        return sink::Progress::failed;
      case Fate::cut_after:
        take_effect_unheard();
        return lose_connection();
      case Fate::cut:
        return lose_connection();
      case Fate::frozen_after:
        fate_ = Fate::frozen;
        take_effect_unheard();
        commit_may_have_left_ = step_ == Step::commit;
        return sink::Progress::working;
      case Fate::on_the_way:
        if (step_ == Step::commit) server_.on_the_way[segment_] = {from_, upto_, staged_};
        fate_ = Fate::frozen;
        return sink::Progress::working;
      case Fate::late:
        if (step_ == Step::commit) server_.zombies[segment_] = {from_, upto_, staged_};
        fate_ = Fate::frozen;
        return sink::Progress::working;
      case Fate::frozen:
        return sink::Progress::working;
      case Fate::warned:
        return take_effect_with_warning();
    }
    return sink::Progress::failed;
  }
  [[nodiscard]] const sink::Failure& failure() const override { return failure_; }
  [[nodiscard]] bool connected() const override { return connected_; }
  [[nodiscard]] sink::IoWait wait() const override { return {3, true, false}; }
  void disconnect() override {
    connected_ = false;
    ++disconnects;
  }

  int disconnects = 0;
  bool closed_by_server = false;  // between two steps; still_open() sees it

 private:
  void start(Step step) {
    server_.steps.push_back(step);
    if (!server_.on_the_way.empty()) let_commits_arrive();
    step_ = step;
    fate_ = server_.fate(step);
    failure_ = {};
    commit_may_have_left_ = false;
    if (step != Step::finish) {
      rows_fate_ = Fate::fine;
      interrupted_ = false;
    }
  }

  void let_commits_arrive() {
    SegmentMap<FakeServer::Zombie> still_on_the_way;
    for (const auto& [segment, zombie] : server_.on_the_way) {
      if (server_.zombie_commits()) {
        server_.run(segment, zombie);
      } else {
        still_on_the_way[segment] = zombie;
      }
    }
    server_.on_the_way = std::move(still_on_the_way);
  }

  // True once another server took over, unless a pooler leads the step there.
  bool failed_over() {
    if (!connected_ || generation_ == server_.generation) return false;
    const bool in_transaction = step_ == Step::copy || step_ == Step::rows ||
                                step_ == Step::finish || step_ == Step::commit;
    if (!server_.behind_pooler || in_transaction) return true;
    generation_ = server_.generation;
    return false;
  }

  sink::Progress lose_connection() {
    const bool at_commit = step_ == Step::commit;
    connected_ = false;
    commit_may_have_left_ = at_commit;
    failure_ = {"", "the connection was lost", ""};
    return sink::Progress::failed;
  }

  sink::Progress fail(const char* sqlstate) {
    commit_may_have_left_ = false;
    failure_ = {sqlstate, "as the server says", ""};
    return sink::Progress::failed;
  }

  sink::Progress take_effect() {
    switch (step_) {
      case Step::connect:
        connected_ = true;
        return sink::Progress::done;
      case Step::resolve:
        return replicated_if_done(resolve());
      case Step::finish:
        return finish();
      case Step::commit:
        return replicated_if_done(commit());
      case Step::confirm:
        return replicated_if_done(confirm());
      case Step::check:
        return check();
      case Step::describe:
      case Step::copy:
      case Step::rows:
        return sink::Progress::done;
    }
    return sink::Progress::failed;
  }

  // Only a write that no one waits for in vain has all writes before it on the standbys.
  sink::Progress replicated_if_done(sink::Progress progress) {
    if (progress == sink::Progress::done) server_.replicated = server_.history.size();
    return progress;
  }

  // Nobody knows whether what nobody heard of is on a standby.
  void take_effect_unheard() {
    const std::size_t replicated = server_.replicated;
    (void)take_effect();
    server_.replicated = replicated;
  }

  sink::Progress take_effect_with_warning() {
    const std::size_t replicated = server_.replicated;
    const sink::Progress progress = take_effect();
    const bool writes = step_ == Step::resolve || step_ == Step::commit || step_ == Step::confirm;
    if (!writes || progress != sink::Progress::done) return progress;
    server_.replicated = replicated;
    commit_may_have_left_ = step_ == Step::commit;
    failure_ = {"", "committed locally, perhaps not on the standby", ""};
    return sink::Progress::failed;
  }

  // The row lock: a commit that is on its way comes first.
  sink::Progress resolve() {
    if (server_.locked.contains(segment_)) return fail("55P03");
    if (FakeServer::Zombie* const zombie = server_.zombies.find(segment_)) {
      if (!std::exchange(waited_for_lock_, true)) return fail("55P03");
      waited_for_lock_ = false;
      if (server_.zombie_commits()) server_.run(segment_, *zombie);
      server_.zombies.erase(segment_);
    }
    resolved_upto_.reset();
    if (server_.watermarks.find(segment_) == nullptr) {
      if (if_missing_ == sink::IfMissing::leave) return sink::Progress::done;
      server_.move_watermark(segment_, 0);
    }
    resolved_upto_ = server_.watermarks[segment_];
    return sink::Progress::done;
  }

  sink::Progress finish() {
    decode();
    for (const std::uint64_t number : staged_) {
      if (server_.refuses(number)) return fail("23514");
    }
    return sink::Progress::done;
  }

  sink::Progress commit() {
    const std::uint64_t* const upto = server_.watermarks.find(segment_);
    if (upto == nullptr || *upto != from_) return fail("22012");
    if (rows_ != staged_.size()) return fail("XX000");
    server_.commit(segment_, upto_, staged_);
    commit_may_have_left_ = false;
    return sink::Progress::done;
  }

  sink::Progress confirm() {
    const std::uint64_t* const upto = server_.watermarks.find(segment_);
    return upto == nullptr || *upto < upto_ ? fail("22012") : sink::Progress::done;
  }

  sink::Progress check() {
    watermarks_.clear();
    for (const spool::Uuid& segment : asked_) {
      const std::uint64_t* const upto = server_.watermarks.find(segment);
      if (upto != nullptr) watermarks_.push_back({segment, *upto});
    }
    return sink::Progress::done;
  }

  // The numbers in a binary COPY stream whose rows begin with a uuid. Rows without a whole stream
  // around them are a bug of the lane: they make no sense to the server.
  void decode() {
    constexpr std::size_t kHeaderBytes = 19;
    staged_.clear();
    if (stream_.size() < kHeaderBytes + 2 || std::memcmp(stream_.data(), "PGCOPY\n", 7) != 0) {
      return;
    }
    std::size_t at = kHeaderBytes;
    while (at + 2 <= stream_.size() && stream_[at] != std::byte{0xff}) {
      const std::uint32_t fields = big_endian(at, 2);
      at += 2;
      for (std::uint32_t field = 0; field < fields; ++field) {
        const std::uint32_t length = big_endian(at, 4);
        at += 4;
        if (length == 0xffffffff) continue;
        if (field == 0) stage_id(at);
        at += length;
      }
    }
    const bool has_trailer = at + 2 == stream_.size();
    if (!has_trailer) staged_.clear();
  }
  void stage_id(std::size_t at) {
    spool::Uuid id;
    std::memcpy(id.bytes.data(), stream_.data() + at, id.bytes.size());
    staged_.push_back(number_of(id));
  }
  [[nodiscard]] std::uint32_t big_endian(std::size_t at, std::size_t bytes) const {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < bytes; ++i) {
      value = value << 8 | std::to_integer<std::uint32_t>(stream_[at + i]);
    }
    return value;
  }

  FakeServer& server_;
  bool connected_ = false;
  std::uint64_t generation_ = 0;
  Step step_ = Step::connect;
  Fate fate_ = Fate::fine;
  Fate rows_fate_ = Fate::fine;
  bool interrupted_ = false;
  bool commit_may_have_left_ = false;
  bool waited_for_lock_ = false;
  sink::Failure failure_;
  spool::Uuid segment_;
  sink::IfMissing if_missing_ = sink::IfMissing::insert;
  std::uint64_t from_ = 0;
  std::uint64_t upto_ = 0;
  std::uint64_t rows_ = 0;
  std::optional<std::uint64_t> resolved_upto_;
  std::vector<spool::Uuid> asked_;
  std::vector<spool::Position> watermarks_;
  std::vector<std::byte> stream_;
  std::vector<std::uint64_t> staged_;
};

}  // namespace sluice::tests
