// A model of the server for tests of the lane: a table, watermarks, and a fate for every step.
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

enum class Step { connect, describe, resolve, copy, rows, finish, commit };

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
};

// What the sessions of all lanes share.
struct FakeServer {
  struct Zombie {
    std::uint64_t from;
    std::uint64_t upto;
    std::vector<std::uint64_t> numbers;
  };

  std::vector<std::uint64_t> table;  // the events' numbers, in the order of commits
  std::map<spool::Uuid, std::uint64_t> watermarks;
  std::map<spool::Uuid, Zombie> zombies;     // hold their watermark's lock
  std::map<spool::Uuid, Zombie> on_the_way;  // hold nothing yet
  std::vector<sink::CatalogColumn> columns = {{"id", "uuid", sink::ColumnType::uuid}};

  std::function<Fate(Step)> fate = [](Step) { return Fate::fine; };
  std::set<spool::Uuid> locked;  // watermarks that somebody holds the lock of for ever
  std::function<bool()> zombie_commits = [] { return true; };
  sink::Failure refusal{"40001", "as the test wants it", ""};
  std::uint64_t rows_swallowed = 0;    // of each COPY
  std::vector<Step> steps;             // every step that was started
  std::vector<std::uint64_t> batches;  // rows of each commit that took effect

  // W3 of a session that nobody listens to any more.
  void run(const spool::Uuid& segment, const Zombie& zombie) {
    if (watermarks[segment] == zombie.from) commit(segment, zombie.upto, zombie.numbers);
  }
  void commit(const spool::Uuid& segment, std::uint64_t upto,
              const std::vector<std::uint64_t>& numbers) {
    watermarks[segment] = upto;
    table.insert(table.end(), numbers.begin(), numbers.end());
    batches.push_back(numbers.size());
  }
};

class FakeDatabase final : public sink::Database {
 public:
  explicit FakeDatabase(FakeServer& server) : server_(server) {}

  void start_connect() override { start(Step::connect); }
  void start_describe() override { start(Step::describe); }
  [[nodiscard]] const std::vector<sink::CatalogColumn>& columns() const override {
    return server_.columns;
  }
  void start_resolve(const spool::Uuid& segment) override {
    segment_ = segment;
    start(Step::resolve);
  }
  [[nodiscard]] std::uint64_t resolved_upto() const override { return resolved_upto_; }
  void start_copy(std::span<const std::string>) override {
    stream_.clear();
    start(Step::copy);
  }
  void send_rows(std::span<const std::byte> bytes) override {
    stream_.insert(stream_.end(), bytes.begin(), bytes.end());
  }
  [[nodiscard]] bool ready_for_rows() override {
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
  [[nodiscard]] bool still_open() override {
    if (std::exchange(closed_by_server, false)) connected_ = false;
    return connected_;
  }

  [[nodiscard]] sink::Progress advance() override {
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
        (void)take_effect();
        return lose_connection();
      case Fate::cut:
        return lose_connection();
      case Fate::frozen_after:
        fate_ = Fate::frozen;
        (void)take_effect();
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
    for (auto zombie = server_.on_the_way.begin(); zombie != server_.on_the_way.end();) {
      const bool arrives = server_.zombie_commits();
      if (arrives) server_.run(zombie->first, zombie->second);
      zombie = arrives ? server_.on_the_way.erase(zombie) : std::next(zombie);
    }
    step_ = step;
    fate_ = server_.fate(step);
    failure_ = {};
    commit_may_have_left_ = false;
    if (step != Step::finish) {
      rows_fate_ = Fate::fine;
      interrupted_ = false;
    }
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
        return resolve();
      case Step::finish:
        staged_ = decode(stream_);
        return sink::Progress::done;
      case Step::commit:
        return commit();
      case Step::describe:
      case Step::copy:
      case Step::rows:
        return sink::Progress::done;
    }
    return sink::Progress::failed;
  }

  // The row lock: a commit that is on its way comes first.
  sink::Progress resolve() {
    if (server_.locked.contains(segment_)) return fail("55P03");
    if (const auto zombie = server_.zombies.find(segment_); zombie != server_.zombies.end()) {
      if (!std::exchange(waited_for_lock_, true)) return fail("55P03");
      waited_for_lock_ = false;
      if (server_.zombie_commits()) server_.run(segment_, zombie->second);
      server_.zombies.erase(segment_);
    }
    resolved_upto_ = server_.watermarks[segment_];
    return sink::Progress::done;
  }

  sink::Progress commit() {
    if (server_.watermarks[segment_] != from_) return fail("22012");
    if (rows_ != staged_.size()) return fail("XX000");
    server_.commit(segment_, upto_, staged_);
    commit_may_have_left_ = false;
    return sink::Progress::done;
  }

  // The numbers in a binary COPY stream whose rows are one uuid each. Rows without a whole stream
  // around them are a bug of the lane: they make no sense to the server.
  static std::vector<std::uint64_t> decode(const std::vector<std::byte>& stream) {
    constexpr std::size_t kHeaderBytes = 19;
    constexpr std::size_t kRowBytes = 2 + 4 + 16;
    std::vector<std::uint64_t> numbers;
    if (stream.size() < kHeaderBytes + 2 || std::memcmp(stream.data(), "PGCOPY\n", 7) != 0) {
      return numbers;
    }
    std::size_t at = kHeaderBytes;
    for (; at + kRowBytes + 2 <= stream.size(); at += kRowBytes) {
      spool::Uuid id;
      std::memcpy(id.bytes.data(), stream.data() + at + 6, id.bytes.size());
      numbers.push_back(number_of(id));
    }
    const bool has_trailer = at + 2 == stream.size() && stream[at] == std::byte{0xff};
    if (!has_trailer) numbers.clear();
    return numbers;
  }

  FakeServer& server_;
  bool connected_ = false;
  Step step_ = Step::connect;
  Fate fate_ = Fate::fine;
  Fate rows_fate_ = Fate::fine;
  bool interrupted_ = false;
  bool commit_may_have_left_ = false;
  bool waited_for_lock_ = false;
  sink::Failure failure_;
  spool::Uuid segment_;
  std::uint64_t from_ = 0;
  std::uint64_t upto_ = 0;
  std::uint64_t rows_ = 0;
  std::uint64_t resolved_upto_ = 0;
  std::vector<std::byte> stream_;
  std::vector<std::uint64_t> staged_;
};

}  // namespace sluice::tests
