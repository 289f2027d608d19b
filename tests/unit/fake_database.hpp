// A model of the server for tests of the lane and of the whole: tables, watermarks, and a fate for
// every step. Made for thousands of histories a second: vectors, and no search that grows with the
// table.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "sink/database.hpp"
#include "tests/unit/event_fixture.hpp"

namespace sluice::tests {

enum class Step {
  connect,
  describe,
  resolve,
  copy,
  rows,
  finish,
  compare,
  settle,
  rollback,
  commit,
  confirm,
  check
};

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

// Rows on their way into a table, or in it.
struct FakeRows {
  std::vector<std::uint64_t> numbers;  // the events', in the order of commits
  std::vector<std::uint8_t> tables;    // one for each: the place in FakeServer::table_names

  void add(std::uint64_t number, std::uint8_t table) {
    numbers.push_back(number);
    tables.push_back(table);
  }
  void clear() {
    numbers.clear();
    tables.clear();
  }
};

// What the sessions of all lanes share. A test may change what it likes between two turns.
struct FakeServer {
  struct Zombie {
    std::uint64_t from;
    std::uint64_t upto;
    FakeRows rows;
  };
  // One transaction that changed something, so that it can be taken back.
  struct Change {
    spool::Uuid segment;
    std::optional<std::uint64_t> watermark_before;  // none: it made the row
    std::size_t rows_before;                        // of the table
  };

  std::vector<std::uint64_t> table;  // the numbers of all tables' rows, in the order of commits
  std::vector<std::uint8_t> tables;  // one for each: the place in table_names
  std::vector<std::string> table_names;
  SegmentMap<std::uint64_t> watermarks;
  SegmentMap<Zombie> zombies;     // hold their watermark's lock
  SegmentMap<Zombie> on_the_way;  // hold nothing yet
  std::vector<sink::CatalogColumn> columns = {{"id", "uuid", sink::ColumnType::uuid}};
  // Tables whose catalog is not just these columns, by name. Without an oid it gets one.
  std::map<std::string, sink::CatalogTable> catalog;
  // Of a row that refers to another one, in its table's statement: whether that one is missing
  // among these, which are all that its transaction sees.
  std::function<bool(const std::string& table, std::uint64_t number, const FakeRows& others)>
      lacks_parent;

  std::function<Fate(Step)> fate = [](Step) { return Fate::fine; };
  std::set<spool::Uuid> locked;  // watermarks that somebody holds the lock of for ever
  std::function<bool()> zombie_commits = [] { return true; };
  sink::Failure refusal{"40001", "as the test wants it", ""};
  std::uint64_t rows_swallowed = 0;         // of each COPY
  std::vector<std::uint64_t> refused_rows;  // numbers, sorted: the table's constraint refuses them
  std::vector<std::uint64_t> refused_when_checked;  // likewise, by a constraint that is deferred
  bool behind_pooler = false;  // connections live through a failover, transactions do not
  // Tables with a key: what the keys of their rows are, and what else is in them, by the events'
  // numbers. A key that is taken is 23505, or a conflict where rows are merged.
  std::set<std::string> keyed_tables;
  std::function<std::uint64_t(std::uint64_t)> key_of = [](std::uint64_t number) { return number; };
  std::function<std::uint64_t(std::uint64_t)> content_of = [](std::uint64_t) { return 0; };
  std::vector<Step> steps;             // every step that was started
  std::vector<std::string> copies;     // the table of every COPY that was started
  std::uint64_t rows_sent = 0;         // over all COPYs that came to their ends
  bool tells_rows = true;              // which row of a COPY was refused
  std::vector<std::string> merges;     // those of them that merged
  std::vector<std::uint64_t> batches;  // rows of each commit that took effect
  std::vector<Change> history;
  std::size_t replicated = 0;    // that many of history are on every standby
  std::uint64_t generation = 0;  // the server's: another one after each failover

  // W3 of a session that nobody listens to any more.
  void run(const spool::Uuid& segment, const Zombie& zombie) {
    const std::uint64_t* const upto = watermarks.find(segment);
    if (upto != nullptr && *upto == zombie.from) commit(segment, zombie.upto, zombie.rows);
  }
  void commit(const spool::Uuid& segment, std::uint64_t upto, const FakeRows& rows) {
    move_watermark(segment, upto);
    table.insert(table.end(), rows.numbers.begin(), rows.numbers.end());
    tables.insert(tables.end(), rows.tables.begin(), rows.tables.end());
    batches.push_back(rows.numbers.size());
  }
  // The place of a table in table_names.
  [[nodiscard]] std::uint8_t table_at(const std::string& name) {
    const auto found = std::find(table_names.begin(), table_names.end(), name);
    if (found == table_names.end()) {
      table_names.push_back(name);
      return static_cast<std::uint8_t>(table_names.size() - 1);
    }
    return static_cast<std::uint8_t>(found - table_names.begin());
  }
  // The numbers that are in one table.
  [[nodiscard]] std::vector<std::uint64_t> rows_of(const std::string& name) {
    const std::uint8_t place = table_at(name);
    std::vector<std::uint64_t> numbers;
    for (std::size_t i = 0; i < table.size(); ++i) {
      if (tables[i] == place) numbers.push_back(table[i]);
    }
    return numbers;
  }
  [[nodiscard]] sink::CatalogTable describe(const std::string& name) {
    const auto found = catalog.find(name);
    sink::CatalogTable described = found == catalog.end() ? sink::CatalogTable{} : found->second;
    if (described.oid == 0) described.oid = std::uint32_t{table_at(name)} + 1;
    if (described.columns.empty() && described.exists) described.columns = columns;
    return described;
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
      tables.resize(last.rows_before);
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
  void start_describe(std::span<const std::string> tables) override {
    described_.assign(tables.begin(), tables.end());
    start(Step::describe);
  }
  [[nodiscard]] const sink::Catalog& catalog() const override { return catalog_; }
  void start_resolve(const spool::Uuid& segment, sink::IfMissing if_missing) override {
    segment_ = segment;
    if_missing_ = if_missing;
    start(Step::resolve);
  }
  [[nodiscard]] std::optional<std::uint64_t> resolved_upto() const override {
    return resolved_upto_;
  }
  void start_copy(const sink::CopyTarget& target, const sink::CopyPlace& place) override {
    stream_.clear();
    settles_ = place.settles;
    take_place(place);
    copied_ = server_.table_at(std::string(target.table));
    merges_ = target.merge != nullptr;
    if (merges_) server_.merges.emplace_back(target.table);
    server_.copies.emplace_back(target.table);
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
  [[nodiscard]] std::uint64_t rows_copied() const override { return rows_copied_; }
  [[nodiscard]] std::uint64_t rows_added() const override { return rows_added_; }
  void start_compare(const sink::MergePlan&) override { start(Step::compare); }
  [[nodiscard]] const std::vector<sink::MergeConflict>& conflicts() const override {
    return conflicts_;
  }
  void start_settle(const sink::CopyPlace& place) override {
    take_place(place);
    start(Step::settle);
  }
  void start_rollback() override { start(Step::rollback); }
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
    const bool is_lost = !connected_ && step_ != Step::connect;
    if (is_lost || failed_over()) return lose_connection();
    switch (fate_) {
      case Fate::fine:
        return take_effect();
      case Fate::slow:
        fate_ = Fate::fine;
        return sink::Progress::working;
      case Fate::refused:
        commit_may_have_left_ = false;
        failure_ = server_.refusal;
        aborted_ = in_transaction_;
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
    connected_ = in_transaction_ = aborted_ = false;
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
                                step_ == Step::finish || step_ == Step::compare ||
                                step_ == Step::settle || step_ == Step::commit;
    if (!server_.behind_pooler || in_transaction) return true;
    generation_ = server_.generation;
    return false;
  }

  // BEGIN forgets what a transaction before left; without it there has to be one. One that failed
  // takes nothing but the way back.
  void take_place(const sink::CopyPlace& place) {
    if (place.opens == in_transaction_) broken_protocol_ = true;
    if (place.opens) {
      staged_.clear();
      savepoint_.reset();
    }
    in_transaction_ = true;
    switch (place.savepoint) {
      case sink::Savepoint::none:
        break;
      case sink::Savepoint::make:
      case sink::Savepoint::renew:
        check_fails_ = place.savepoint == sink::Savepoint::renew && fails_check();
        if (check_fails_) break;
        if (savepoint_.has_value() == (place.savepoint == sink::Savepoint::make)) {
          broken_protocol_ = true;
        }
        savepoint_ = staged_;
        break;
      case sink::Savepoint::return_to:
        if (!savepoint_) {
          broken_protocol_ = true;
        } else {
          staged_ = *savepoint_;
        }
        aborted_ = false;
        break;
    }
  }

  sink::Progress lose_connection() {
    const bool at_commit = step_ == Step::commit;
    connected_ = in_transaction_ = aborted_ = false;
    commit_may_have_left_ = at_commit;
    failure_ = {"", "the connection was lost", ""};
    return sink::Progress::failed;
  }

  sink::Progress fail(const char* sqlstate) {
    commit_may_have_left_ = false;
    failure_ = {sqlstate, "as the server says", ""};
    if (in_transaction_) aborted_ = true;
    return sink::Progress::failed;
  }

  sink::Progress take_effect() {
    const bool needs_transaction = step_ == Step::copy || step_ == Step::finish ||
                                   step_ == Step::compare || step_ == Step::settle ||
                                   step_ == Step::commit;
    if (broken_protocol_) return fail("25P01");
    if (aborted_ && needs_transaction) return fail("25P02");
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
      case Step::rollback:
        in_transaction_ = aborted_ = false;
        staged_.clear();
        return sink::Progress::done;
      case Step::describe:
        describe();
        return sink::Progress::done;
      case Step::copy:
        return std::exchange(check_fails_, false) ? fail("23514") : sink::Progress::done;
      case Step::settle:
        return std::exchange(check_fails_, false) || fails_check() ? fail("23514")
                                                                   : sink::Progress::done;
      case Step::rows:
      case Step::compare:
        return sink::Progress::done;
    }
    return sink::Progress::failed;
  }

  // The deferred constraints, over all rows of the transaction.
  [[nodiscard]] bool fails_check() const {
    return std::any_of(staged_.numbers.begin(), staged_.numbers.end(), [&](std::uint64_t number) {
      return std::binary_search(server_.refused_when_checked.begin(),
                                server_.refused_when_checked.end(), number);
    });
  }

  void describe() {
    catalog_ = {"role", true, {}};
    for (const std::string& name : described_) catalog_.tables.push_back(server_.describe(name));
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
    const std::size_t before = staged_.numbers.size();
    decode();
    server_.rows_sent += staged_.numbers.size() - before;
    for (std::size_t i = before; i < staged_.numbers.size(); ++i) {
      if (server_.refuses(staged_.numbers[i])) return fail_at("23514", i - before + 1);
      if (lacks_parent(staged_.numbers[i])) return fail("23503");
    }
    const std::uint64_t rows = staged_.numbers.size() - before;
    rows_copied_ = rows_added_ = rows - std::min(rows, server_.rows_swallowed);
    if (settles_ && fails_check()) return fail("23514");
    if (!server_.keyed_tables.contains(server_.table_names[copied_])) return sink::Progress::done;
    return add_keyed(before) ? sink::Progress::done : fail("23505");
  }

  // Of the rows from `before` on, those whose key is free stay. False: a key is taken, and they are
  // not merged.
  bool add_keyed(std::size_t before) {
    conflicts_.clear();
    std::map<std::uint64_t, std::uint64_t> numbers_by_key;
    for (const std::uint64_t number : server_.rows_of(server_.table_names[copied_])) {
      numbers_by_key.emplace(server_.key_of(number), number);
    }
    FakeRows kept;
    for (std::size_t i = 0; i < staged_.numbers.size(); ++i) {
      const std::uint64_t number = staged_.numbers[i];
      const bool is_free = staged_.tables[i] != copied_ ||
                           numbers_by_key.emplace(server_.key_of(number), number).second;
      if (is_free) {
        kept.add(number, staged_.tables[i]);
        continue;
      }
      if (!merges_) return false;
      const bool agrees =
          server_.content_of(numbers_by_key[server_.key_of(number)]) == server_.content_of(number);
      --rows_added_;
      if (!agrees) conflicts_.push_back({i - before + 1, true, false, true, true});
    }
    staged_ = std::move(kept);
    return true;
  }

  sink::Progress fail_at(const char* sqlstate, std::uint64_t row) {
    (void)fail(sqlstate);
    if (server_.tells_rows) failure_.row = row;
    return sink::Progress::failed;
  }

  bool lacks_parent(std::uint64_t number) {
    if (!server_.lacks_parent) return false;
    FakeRows seen{server_.table, server_.tables};
    seen.numbers.insert(seen.numbers.end(), staged_.numbers.begin(), staged_.numbers.end());
    seen.tables.insert(seen.tables.end(), staged_.tables.begin(), staged_.tables.end());
    return server_.lacks_parent(server_.table_names[copied_], number, seen);
  }

  sink::Progress commit() {
    const std::uint64_t* const upto = server_.watermarks.find(segment_);
    if (!std::exchange(in_transaction_, false)) return fail("25P01");
    if (upto == nullptr || *upto != from_) return fail("22012");
    if (rows_ > staged_.numbers.size()) return fail("XX000");
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
    const std::size_t before = staged_.numbers.size();
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
    if (has_trailer) return;
    staged_.numbers.resize(before);
    staged_.tables.resize(before);
  }
  void stage_id(std::size_t at) {
    spool::Uuid id;
    std::memcpy(id.bytes.data(), stream_.data() + at, id.bytes.size());
    staged_.add(number_of(id), copied_);
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
  std::vector<std::string> described_;
  sink::Catalog catalog_;
  std::uint8_t copied_ = 0;  // the table of the COPY, as its place in table_names
  std::uint64_t rows_copied_ = 0;
  std::uint64_t rows_added_ = 0;
  bool merges_ = false;
  bool settles_ = false;  // the COPY
  std::vector<sink::MergeConflict> conflicts_;
  bool in_transaction_ = false;
  bool aborted_ = false;  // the transaction has failed
  std::optional<FakeRows> savepoint_;
  bool check_fails_ = false;      // that of the place that was taken last
  bool broken_protocol_ = false;  // a step that needs a transaction was started without one
  FakeRows staged_;               // of the transaction
};

}  // namespace sluice::tests
