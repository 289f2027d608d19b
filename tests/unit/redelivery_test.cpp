// Set-aside events on their way into their tables, against a model of the server.
#include "sink/redelivery.hpp"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <map>
#include <set>

#include "spool/aside_log.hpp"
#include "tests/support/fake_disk.hpp"
#include "tests/unit/event_fixture.hpp"

using namespace sluice::sink;
using namespace sluice::tests;
using namespace std::chrono_literals;
using sluice::spool::AsideLog;
using sluice::spool::AsideLogOptions;
using sluice::spool::AsideRecord;
using sluice::spool::AsideState;
using sluice::spool::AsideText;
using sluice::spool::Chunk;
using sluice::spool::Position;
using sluice::spool::RedeliveredCount;
using sluice::spool::Uuid;

namespace {

using Clock = Redelivery::Clock;
using Numbers = std::vector<std::uint64_t>;

enum class Step { connect, describe, look_up, copy, finish, redeliver, roll_back, count, list };
enum class Fate { fine, refused, cut, cut_after, frozen };
constexpr Step kSteps[] = {Step::connect,   Step::describe, Step::look_up,
                           Step::copy,      Step::finish,   Step::redeliver,
                           Step::roll_back, Step::count,    Step::list};
constexpr Fate kFates[] = {Fate::refused, Fate::cut, Fate::cut_after, Fate::frozen};

struct Server {
  std::map<Uuid, std::uint64_t> watermarks;
  std::set<Position> redelivered;
  Numbers table;
  std::map<std::uint64_t, Failure> refused;  // by the event's number
  Catalog catalog;
  std::function<Fate(Step)> fate = [](Step) { return Fate::fine; };
  Failure refusal{"40001", "as the test wants it", ""};
  std::uint64_t connects = 0;
  std::uint64_t copies = 0;

  Server() {
    catalog.tables.emplace_back();
    catalog.tables[0].columns = {{.name = "id", .type = "uuid", .encoder = ColumnType::uuid}};
  }
  [[nodiscard]] bool counts(const AsideClaim& claim) const {
    const auto upto = watermarks.find(claim.event.segment);
    return upto == watermarks.end() ? claim.outlived_watermark : claim.event.index < upto->second;
  }
};

// Steps that a redelivery does not use do nothing.
class FakeServer final : public RedeliveryDatabase {
 public:
  explicit FakeServer(Server& server) : server_(server) {}

  void start_connect() override {
    ++server_.connects;
    start(Step::connect);
  }
  void start_describe(std::span<const std::string>) override { start(Step::describe); }
  [[nodiscard]] const Catalog& catalog() const override { return server_.catalog; }
  void start_copy(const CopyTarget&, const CopyPlace&) override {
    ++server_.copies;
    stream_.clear();
    start(Step::copy);
  }
  void send_rows(std::span<const std::byte> bytes) override {
    stream_.insert(stream_.end(), bytes.begin(), bytes.end());
  }
  void start_finish_copy() override { start(Step::finish); }
  [[nodiscard]] std::uint64_t rows_copied() const override { return rows_.size(); }
  [[nodiscard]] std::uint64_t rows_added() const override { return rows_.size(); }
  void start_compare(const MergePlan&) override {}
  [[nodiscard]] const std::vector<MergeConflict>& conflicts() const override { return conflicts_; }
  void start_look_up(std::span<const AsideClaim> claims) override {
    claims_.assign(claims.begin(), claims.end());
    start(Step::look_up);
  }
  [[nodiscard]] const std::vector<AsideStanding>& standings() const override { return standings_; }
  void start_redeliver(std::span<const AsideClaim> claims) override {
    claims_.assign(claims.begin(), claims.end());
    start(Step::redeliver);
  }
  void start_rollback() override { start(Step::roll_back); }
  void start_count_redelivered(std::span<const Uuid> segments) override {
    segments_.assign(segments.begin(), segments.end());
    start(Step::count);
  }
  [[nodiscard]] const std::vector<RedeliveredCount>& redelivered_counts() const override {
    return counts_;
  }
  void start_list_redelivered(const Uuid& segment) override {
    segments_ = {segment};
    start(Step::list);
  }
  [[nodiscard]] const std::vector<std::uint64_t>& redelivered_indexes() const override {
    return indexes_;
  }
  [[nodiscard]] Progress advance() override {
    switch (fate_) {
      case Fate::fine:
        return take_effect();
      case Fate::refused:
        failure_ = server_.refusal;
        return Progress::failed;
      case Fate::cut_after:
        (void)take_effect();
        return lose_connection();
      case Fate::cut:
        return lose_connection();
      case Fate::frozen:
        return Progress::working;
    }
    return Progress::failed;
  }
  [[nodiscard]] const Failure& failure() const override { return failure_; }
  [[nodiscard]] bool connected() const override { return connected_; }
  [[nodiscard]] IoWait wait() const override { return {3, true, false}; }
  void disconnect() override { connected_ = false; }

  void start_resolve(const Uuid&, IfMissing) override {}
  [[nodiscard]] std::optional<std::uint64_t> resolved_upto() const override { return {}; }
  [[nodiscard]] bool ready_for_rows() override { return true; }
  [[nodiscard]] bool interrupted() const override { return false; }
  void start_settle(const CopyPlace&) override {}
  void start_commit(const Uuid&, std::uint64_t, std::uint64_t, std::uint64_t) override {}
  [[nodiscard]] bool commit_may_have_left() const override { return false; }
  void start_confirm(const Position&) override {}
  void start_check(std::span<const Uuid>) override {}
  [[nodiscard]] const std::vector<Position>& watermarks() const override { return watermarks_; }
  [[nodiscard]] bool still_open() override { return connected_; }

 private:
  void start(Step step) {
    step_ = step;
    fate_ = server_.fate(step);
  }
  Progress lose_connection() {
    connected_ = false;
    failure_ = {"", "the connection was lost", ""};
    return Progress::failed;
  }
  Progress take_effect() {
    switch (step_) {
      case Step::connect:
        connected_ = true;
        return Progress::done;
      case Step::finish:
        return finish();
      case Step::redeliver:
        return redeliver();
      case Step::look_up:
        standings_.clear();
        for (const AsideClaim& claim : claims_) {
          standings_.push_back(
              {claim.event, server_.counts(claim), server_.redelivered.contains(claim.event)});
        }
        return Progress::done;
      case Step::count:
        counts_.clear();
        for (const Uuid& segment : segments_) {
          if (const auto rows = of(segment).size(); rows > 0) counts_.push_back({segment, rows});
        }
        return Progress::done;
      case Step::list:
        indexes_ = of(segments_[0]);
        return Progress::done;
      case Step::describe:
      case Step::copy:
      case Step::roll_back:
        return Progress::done;
    }
    return Progress::failed;
  }
  Numbers of(const Uuid& segment) {
    Numbers indexes;
    for (const Position& each : server_.redelivered) {
      if (each.segment == segment) indexes.push_back(each.index);
    }
    return indexes;
  }
  Progress finish() {
    decode();
    for (const std::uint64_t number : rows_) {
      const auto refused = server_.refused.find(number);
      if (refused == server_.refused.end()) continue;
      failure_ = refused->second;
      return Progress::failed;
    }
    return Progress::done;
  }
  Progress redeliver() {
    for (const AsideClaim& claim : claims_) {
      failure_ = {server_.counts(claim) ? "23505" : "22012", "not this one", ""};
      if (!server_.counts(claim) || server_.redelivered.contains(claim.event)) {
        return Progress::failed;
      }
    }
    for (const AsideClaim& claim : claims_) server_.redelivered.insert(claim.event);
    server_.table.insert(server_.table.end(), rows_.begin(), rows_.end());
    return Progress::done;
  }
  // Rows of one column, a uuid, in the binary format.
  void decode() {
    constexpr std::size_t kHeaderBytes = 19;
    constexpr std::size_t kRowBytes = 2 + 4 + 16;
    rows_.clear();
    for (std::size_t at = kHeaderBytes; at + kRowBytes + 2 <= stream_.size(); at += kRowBytes) {
      Uuid id;
      std::memcpy(id.bytes.data(), stream_.data() + at + 6, id.bytes.size());
      rows_.push_back(number_of(id));
    }
  }

  Server& server_;
  Step step_ = Step::connect;
  Fate fate_ = Fate::fine;
  bool connected_ = false;
  Failure failure_;
  std::vector<std::byte> stream_;
  Numbers rows_;
  std::vector<AsideClaim> claims_;
  std::vector<AsideStanding> standings_;
  std::vector<Uuid> segments_;
  std::vector<RedeliveredCount> counts_;
  Numbers indexes_;
  std::vector<Position> watermarks_;
  std::vector<MergeConflict> conflicts_;
};

class Reporter final : public RedeliveryReporter {
 public:
  void delivered(const Position& event, bool by_an_earlier_try) override {
    (by_an_earlier_try ? found : rows).push_back(event.index);
  }
  void refused(const Position& event, AsideState state, const Failure& failure) override {
    refusals[event.index] = {state, failure.sqlstate};
  }
  void left_to_segment(const Position& event) override { left.insert(event.index); }
  void unreadable(const Position& event) override { unread.insert(event.index); }
  void lost(const Uuid&, std::uint64_t events) override { rows_lost += events; }
  void closed(std::string_view, const Failure& failure) override { closings.push_back(failure); }
  void failed(std::string_view, const Failure& failure, std::chrono::milliseconds) override {
    failures.push_back(failure);
  }

  Numbers rows;
  Numbers found;
  std::map<std::uint64_t, std::pair<AsideState, std::string>> refusals;
  std::set<std::uint64_t> left;
  std::set<std::uint64_t> unread;
  std::uint64_t rows_lost = 0;
  std::vector<Failure> closings;
  std::vector<Failure> failures;
};

const Uuid kSegment = Uuid::parse("01234567-89ab-cdef-0123-456789abcdef").value();
const Route kRoute{.table = "events", .columns = {{"id", Source::id}}};
const Failure kOrphan{"23503", "no parent", ""};
const Failure kCheck{"23514", "no", ""};

bool make_event(const AsideText& record, Chunk& chunk) {
  if (record.line == "broken") return false;
  append_event(chunk, number_of(record.id.value_or(Uuid{})));
  return true;
}

class Bench {
 public:
  Bench() { restart(); }
  void restart() {
    redelivery_.reset();
    log.emplace(AsideLogOptions{.steady_now_s = [this] { return seconds(); }}, disk);
    database_ = std::make_unique<FakeServer>(server);
    RedeliveryOptions options;
    options.unix_now_us = [this] {
      return std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch()).count();
    };
    redelivery_ = std::make_unique<Redelivery>(options, std::vector<Route>{kRoute}, *log,
                                               make_event, *database_, reporter);
  }
  void append(std::uint64_t index, AsideState state, const std::string& line = "{}") {
    REQUIRE(log->append(
        {.state = state,
         .segment = kSegment,
         .index = index,
         .time_us =
             std::chrono::duration_cast<std::chrono::microseconds>(now.time_since_epoch()).count(),
         .received_us = 1,
         .id = numbered_id(index),
         .table = "events",
         .sqlstate = "23503",
         .line = line}));
  }
  void append_many(std::uint64_t count, AsideState state) {
    for (std::uint64_t i = 0; i < count; ++i) append(i, state);
    server.watermarks[kSegment] = count;
  }
  void pass(Clock::duration time) {
    for (const auto end = now + time; now < end;) {
      const Redelivery::Wait wait = redelivery_->turn(now);
      now = std::max(now, std::min(end, wait.until.value_or(end)));
    }
  }
  std::size_t to_try() { return log->to_try({}, 10'000).size(); }
  Numbers table() {
    std::sort(server.table.begin(), server.table.end());
    return server.table;
  }
  [[nodiscard]] std::int64_t seconds() const {
    return std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch()).count();
  }

  FakeDisk disk;
  Server server;
  Reporter reporter;
  Clock::time_point now{1h};
  std::optional<AsideLog> log;

 private:
  std::unique_ptr<FakeServer> database_;
  std::unique_ptr<Redelivery> redelivery_;
};

Numbers upto(std::uint64_t end) {
  Numbers numbers;
  for (std::uint64_t i = 0; i < end; ++i) numbers.push_back(i);
  return numbers;
}

}  // namespace

TEST_CASE("redelivery: what is held is delivered, once, when its table fits") {
  Bench bench;
  bench.server.catalog.tables[0].exists = false;
  bench.append_many(1'000, AsideState::held);
  bench.pass(60s);
  CHECK(bench.server.table.empty());
  CHECK(bench.to_try() == 1'000);
  REQUIRE_FALSE(bench.reporter.closings.empty());
  CHECK(bench.reporter.closings[0].sqlstate == "42P01");
  bench.server.catalog.tables[0].exists = true;
  bench.pass(40s);
  CHECK(bench.table() == upto(1'000));
  CHECK(bench.to_try() == 0);
  bench.pass(60s);
  CHECK(bench.server.table.size() == 1'000);
  CHECK(bench.reporter.rows.size() == 1'000);
}

TEST_CASE("redelivery: what waits is delivered soon after its parent is there") {
  Bench bench;
  bench.append_many(10, AsideState::waiting);
  for (std::uint64_t i = 0; i < 10; ++i) bench.server.refused[i] = kOrphan;
  bench.pass(5s);
  CHECK(bench.to_try() == 10);
  CHECK(bench.reporter.refusals[0].first == AsideState::waiting);
  bench.server.refused.erase(4);
  bench.server.refused.erase(7);
  bench.pass(3s);
  CHECK(bench.table() == Numbers{4, 7});
  bench.server.refused.clear();
  bench.pass(3s);
  CHECK(bench.table() == upto(10));
}

TEST_CASE("redelivery: what waits is tried soon, whatever else is set aside") {
  Bench bench;
  for (std::uint64_t i = 0; i < 3; ++i) bench.append(i, AsideState::dead);
  bench.server.watermarks[kSegment] = 10;
  bench.pass(100s);
  CHECK(bench.server.connects < 5);
  bench.append(5, AsideState::waiting);
  bench.pass(4s);
  CHECK(bench.table() == Numbers{5});
}

TEST_CASE("redelivery: what has waited long enough is dead") {
  Bench bench;
  bench.append_many(10, AsideState::waiting);
  for (std::uint64_t i = 0; i < 10; ++i) bench.server.refused[i] = kOrphan;
  bench.pass(29s);
  CHECK(bench.to_try() == 10);
  bench.pass(5s);
  CHECK(bench.to_try() == 0);
  CHECK(bench.reporter.refusals[3] == std::pair(AsideState::dead, std::string("23503")));
  CHECK(bench.log->read({kSegment, 3}).value().state == AsideState::dead);
  bench.server.refused.clear();
  bench.pass(60s);
  CHECK(bench.server.table.empty());
}

TEST_CASE("redelivery: what waits does not die of a table that is out of order") {
  Bench bench;
  bench.append_many(3, AsideState::waiting);
  bench.server.catalog.tables[0].exists = false;
  bench.pass(100s);
  CHECK(bench.to_try() == 3);
  CHECK(bench.log->read({kSegment, 1}).value().state == AsideState::held);
  bench.server.catalog.tables[0].exists = true;
  bench.pass(40s);
  CHECK(bench.table() == upto(3));
}

TEST_CASE("redelivery: a row that is refused costs itself only") {
  Bench bench;
  bench.append_many(500, AsideState::held);
  for (const std::uint64_t number : {0, 77, 78, 499}) bench.server.refused[number] = kCheck;
  bench.server.refused[200] = kOrphan;
  bench.pass(10s);
  CHECK(bench.server.table.size() == 495);
  CHECK(bench.to_try() == 1);
  CHECK(bench.log->read({kSegment, 77}).value().state == AsideState::dead);
  CHECK(bench.log->read({kSegment, 77}).value().sqlstate == "23514");
  CHECK(bench.log->read({kSegment, 200}).value().state == AsideState::waiting);
  CHECK(bench.server.copies < 100);
}

TEST_CASE("redelivery: what is held stays it when the table refuses a thousand in a row") {
  Bench bench;
  bench.append_many(1'500, AsideState::held);
  for (std::uint64_t i = 0; i < 1'500; ++i) bench.server.refused[i] = kCheck;
  bench.pass(300s);
  CHECK(bench.to_try() == 500);
  CHECK(bench.reporter.refusals.size() == 1'000);
  REQUIRE_FALSE(bench.reporter.closings.empty());
  CHECK(bench.reporter.closings[0].sqlstate == "23514");
  bench.server.refused.clear();
  bench.pass(60s);
  CHECK(bench.server.table.size() == 500);
  CHECK(bench.to_try() == 0);
}

TEST_CASE("redelivery: parents that are missing are no reason to hold the others") {
  Bench bench;
  bench.append_many(1'500, AsideState::waiting);
  for (std::uint64_t i = 0; i < 1'500; ++i) bench.server.refused[i] = kOrphan;
  bench.append(1'500, AsideState::held);
  bench.server.watermarks[kSegment] = 1'501;
  bench.server.refused[1'500] = kCheck;
  bench.pass(10s);
  CHECK(bench.log->read({kSegment, 1'500}).value().state == AsideState::dead);
  CHECK(bench.reporter.closings.empty());
}

TEST_CASE("redelivery: a record above its watermark is left to its segment") {
  Bench bench;
  bench.append_many(10, AsideState::held);
  bench.server.watermarks[kSegment] = 4;
  bench.pass(10s);
  CHECK(bench.table() == upto(4));
  CHECK(bench.reporter.left.size() == 6);
  bench.server.watermarks.erase(kSegment);
  bench.pass(60s);
  CHECK(bench.server.table.size() == 4);
  bench.server.watermarks[kSegment] = 10;
  bench.pass(60s);
  CHECK(bench.table() == upto(10));
}

TEST_CASE("redelivery: a record that outlived its watermark counts") {
  Bench bench;
  bench.append_many(2, AsideState::held);
  bench.server.watermarks.clear();
  bench.pass(60s);
  CHECK(bench.server.table.empty());
  bench.now += 24h * 31;
  bench.pass(60s);
  CHECK(bench.table() == upto(2));
}

TEST_CASE("redelivery: what another has delivered is not delivered again") {
  Bench bench;
  bench.append_many(5, AsideState::held);
  bench.server.redelivered = {{kSegment, 1}, {kSegment, 3}};
  bench.pass(10s);
  CHECK(bench.table() == Numbers{0, 2, 4});
  CHECK(bench.to_try() == 0);
}

TEST_CASE("redelivery: what a failover lost is delivered again") {
  Bench bench;
  bench.append_many(5, AsideState::held);
  bench.pass(10s);
  REQUIRE(bench.table() == upto(5));
  bench.server.redelivered.erase({kSegment, 2});
  std::erase(bench.server.table, 2);
  bench.pass(20s);
  CHECK(bench.table() == upto(5));
  CHECK(bench.reporter.rows_lost == 1);
}

TEST_CASE("redelivery: a restart finds what was delivered before it") {
  Bench bench;
  bench.append_many(5, AsideState::held);
  bench.pass(10s);
  bench.restart();
  CHECK(bench.to_try() == 5);
  bench.pass(10s);
  CHECK(bench.to_try() == 0);
  CHECK(bench.table() == upto(5));
}

TEST_CASE("redelivery: any fate of any step delivers each row once") {
  for (const Step step : kSteps) {
    for (const Fate fate : kFates) {
      for (const int nth : {1, 2, 3}) {
        CAPTURE(static_cast<int>(step), static_cast<int>(fate), nth);
        Bench bench;
        bench.append_many(20, AsideState::held);
        bench.server.refused[11] = kCheck;
        int times = 0;
        bench.server.fate = [&](Step started) {
          return started == step && ++times == nth ? fate : Fate::fine;
        };
        bench.pass(100s);
        bench.server.redelivered.erase({kSegment, 5});  // a check that finds something
        std::erase(bench.server.table, 5);
        bench.pass(300s);
        Numbers expected = upto(20);
        std::erase(expected, 11);
        CHECK(bench.table() == expected);
        CHECK(bench.to_try() == 0);
        CHECK(bench.log->read({kSegment, 11}).value().state == AsideState::dead);
      }
    }
  }
}

TEST_CASE("redelivery: a line that makes no event any more is dead") {
  Bench bench;
  bench.append(0, AsideState::held, "broken");
  bench.append(1, AsideState::held);
  bench.server.watermarks[kSegment] = 2;
  bench.pass(10s);
  CHECK(bench.table() == Numbers{1});
  CHECK(bench.reporter.unread == std::set<std::uint64_t>{0});
  CHECK(bench.to_try() == 0);
}

TEST_CASE("redelivery: without records nobody connects") {
  Bench bench;
  bench.pass(100s);
  CHECK(bench.server.connects == 0);
}
