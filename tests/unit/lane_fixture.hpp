// What tests of the lane share: a reporter that keeps what it hears, fates for steps, and a spool
// that keeps what it has.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "sink/lane_reporter.hpp"
#include "sink/route.hpp"
#include "spool/aside.hpp"
#include "spool/spool.hpp"
#include "tests/unit/event_fixture.hpp"
#include "tests/unit/fake_database.hpp"

namespace sluice::tests {

using Numbers = std::vector<std::uint64_t>;

inline const sink::Route kRoute{.table = "events", .columns = {{"id", sink::Source::id}}};

class RecordingReporter final : public sink::LaneReporter {
 public:
  void state_changed(std::size_t, sink::LaneState state) override { states.push_back(state); }
  void failed(std::size_t, std::string_view step, const sink::Failure& failure,
              std::chrono::milliseconds delay) override {
    failures.push_back({std::string(step), failure, delay});
  }
  void held(std::size_t, std::string_view step, const sink::Failure& failure,
            std::chrono::milliseconds delay) override {
    holds.push_back({std::string(step), failure, delay});
  }
  void recovered(std::size_t) override { ++recoveries; }
  void batch_committed(std::size_t, const sink::CommittedBatch& batch) override {
    events_committed += batch.events;
    events_in_table += batch.duplicates;
    for (const sink::CommittedGroup& group : batch.groups) events_in_groups += group.events;
  }
  void commit_unknown(std::size_t) override { ++unknowns; }
  void unknown_was_committed(std::size_t, std::uint64_t events) override {
    events_committed += events;
    events_in_groups += events;
  }
  void found_committed(std::size_t, std::uint64_t events) override { events_found += events; }
  void row_set_aside(std::size_t, const spool::Position& position,
                     const sink::Failure& failure) override {
    rows_set_aside.push_back({position, failure});
  }
  void set_aside_committed(std::size_t, std::uint64_t events) override {
    events_set_aside += events;
  }
  void segment_forgotten(std::size_t, const spool::Uuid&, std::uint64_t events) override {
    events_forgotten += events;
  }
  void commits_lost(std::size_t, const spool::Position&, std::uint64_t events,
                    bool resent) override {
    (resent ? events_resent : events_lost) += events;
    ++regresses;
  }

  struct Trouble {
    std::string step;
    sink::Failure failure;
    std::chrono::milliseconds delay;
  };
  std::vector<sink::LaneState> states;
  std::vector<Trouble> failures;
  std::vector<Trouble> holds;
  int recoveries = 0;
  int unknowns = 0;
  std::uint64_t events_committed = 0;
  std::uint64_t events_in_table = 0;
  std::uint64_t events_in_groups = 0;
  std::uint64_t events_resent = 0;
  std::uint64_t events_lost = 0;
  std::uint64_t events_found = 0;
  std::uint64_t events_set_aside = 0;
  std::uint64_t events_forgotten = 0;
  std::vector<std::pair<spool::Position, sink::Failure>> rows_set_aside;
  int regresses = 0;
};

inline Numbers numbers_upto(std::uint64_t end) {
  Numbers numbers(end);
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

// A fate that falls on the n-th start of a step and never again.
inline std::function<Fate(Step)> nth_time(Step step, int n, Fate fate) {
  return [=, times = 0](Step started) mutable {
    return started == step && ++times == n ? fate : Fate::fine;
  };
}

inline constexpr Step kSteps[] = {Step::connect,  Step::describe, Step::resolve, Step::copy,
                                  Step::rows,     Step::finish,   Step::compare, Step::settle,
                                  Step::rollback, Step::commit};
inline constexpr Fate kFates[] = {Fate::slow,      Fate::refused,    Fate::cut,
                                  Fate::cut_after, Fate::frozen,     Fate::frozen_after,
                                  Fate::late,      Fate::on_the_way, Fate::warned};

// One lane's segments that stay in memory whatever was released, confirmed or lost: as a spool on
// disk within retain_time. Each block is as long as the call that made it says.
class KeepingReader final : public spool::SpoolReader {
 public:
  struct Segment {
    spool::Uuid id = spool::Uuid::random();
    std::int64_t created_us = 0;
    std::vector<spool::BlockPtr> blocks;
    std::uint64_t end = 0;
    std::uint64_t released = 0;
    bool closed = false;
    bool confirmed = false;
    bool quarantined = false;
  };

  // A new segment; the one before is closed.
  Segment& open() {
    if (!segments_.empty()) segments_.back()->closed = true;
    return *segments_.emplace_back(std::make_unique<Segment>());
  }
  void append(std::uint64_t first, std::uint64_t count) {
    Segment& last = *segments_.back();
    auto block = std::make_shared<spool::Block>();
    block->segment = last.id;
    block->first_index = last.end;
    block->count = count;
    block->chunks.push_back(chunk_of(budget_, first, count, 64, type_of));
    block->chunks.back().retain([&](spool::RecordHeader& header, std::span<spool::FieldSpan>) {
      header.uid = uid;
      return true;
    });
    last.end += count;
    last.blocks.push_back(std::move(block));
  }
  // A closed segment of one block.
  Segment& add(std::uint64_t first, std::uint64_t count) {
    Segment& segment = open();
    append(first, count);
    segment.closed = true;
    return segment;
  }
  Segment& at(std::size_t i) { return *segments_.at(i); }
  // As after a restart: nothing is known but what the files hold.
  void restart() {
    for (const auto& segment : segments_) {
      segment->released = 0;
      segment->confirmed = false;
      segment->closed = true;
    }
  }

  std::optional<spool::SegmentToDeliver> first_segment() override {
    for (const auto& segment : segments_) {
      if (!segment->confirmed && !segment->quarantined) return {{segment->id, segment->created_us}};
    }
    return std::nullopt;
  }
  spool::ReadResult read(const spool::Position& position) override {
    ++reads;
    const Segment* const segment = find(position.segment);
    if (segment == nullptr) return spool::EndOfSegment{};
    if (position.index >= unreadable_from) return spool::UnreadableNow{};
    for (const spool::BlockPtr& block : segment->blocks) {
      if (block->end_index() > position.index) return block;
    }
    if (segment->closed) return spool::EndOfSegment{};
    return spool::NothingYet{};
  }
  std::uint64_t release(const spool::Position& upto) override {
    Segment* const segment = find(upto.segment);
    if (segment == nullptr) return 0;
    const std::uint64_t index = std::min(upto.index, segment->end);
    if (index <= segment->released) return 0;
    return index - std::exchange(segment->released, index);
  }
  std::uint64_t events_held() const override {
    std::uint64_t events = 0;
    for (const auto& segment : segments_) {
      if (!segment->quarantined) events += segment->end - segment->released;
    }
    return events;
  }
  void confirm(const spool::Uuid& id) override {
    Segment* const segment = find(id);
    if (segment->released == segment->end) segment->confirmed = true;
  }
  std::vector<spool::Position> delivered() const override {
    std::vector<spool::Position> positions;
    for (const auto& segment : segments_) {
      if (segment->confirmed) positions.push_back({segment->id, segment->end});
    }
    return positions;
  }
  std::uint64_t rewind(const spool::Position& position) override {
    Segment* const segment = find(position.segment);
    if (segment == nullptr || segment->released <= position.index) return 0;
    segment->confirmed = false;
    return std::exchange(segment->released, position.index) - position.index;
  }
  std::uint64_t quarantine(const spool::Uuid& id) override {
    Segment* const segment = find(id);
    segment->quarantined = true;
    return segment->end - segment->released;
  }

  // The disk cannot read what stands from here on.
  std::uint64_t unreadable_from = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t reads = 0;
  // Of the events that are appended.
  std::uint32_t uid = 0;
  std::function<std::string(std::uint64_t)> type_of;

 private:
  [[nodiscard]] Segment* find(const spool::Uuid& id) const {
    const auto found = std::find_if(segments_.rbegin(), segments_.rend(),
                                    [&](const auto& segment) { return segment->id == id; });
    return found == segments_.rend() ? nullptr : found->get();
  }

  spool::ByteBudget budget_{1'000'000'000};
  std::vector<std::unique_ptr<Segment>> segments_;
};

// Set-aside records in memory.
class FakeAside final : public spool::AsideWriter {
 public:
  struct Record {
    spool::Position position;
    std::string sqlstate;
    std::string line;
    spool::AsideState state = spool::AsideState::dead;
    spool::Uuid id{};
    std::int64_t received_us = 0;
    std::string route{};
    bool of_this_run = true;
  };

  bool append(const spool::AsideRecord& record) override {
    if (append_fails()) return false;
    records.push_back({{record.segment, record.index},
                       std::string(record.sqlstate),
                       std::string(record.line),
                       record.state,
                       record.id,
                       record.received_us,
                       std::string(record.route),
                       true});
    return true;
  }
  std::optional<std::vector<spool::AsideEntry>> records_from(
      const spool::Position& position) override {
    if (reading_fails()) return std::nullopt;
    std::vector<spool::AsideEntry> entries;
    for (const Record& record : records) {
      const spool::Position& at = record.position;
      if (at.segment != position.segment || at.index < position.index) continue;
      std::erase_if(entries, [&](const auto& entry) { return entry.index == at.index; });
      entries.push_back({at.index, record.of_this_run, record.state, record.sqlstate, "", ""});
    }
    std::sort(entries.begin(), entries.end(),
              [](const auto& a, const auto& b) { return a.index < b.index; });
    return entries;
  }
  void restart() {
    for (Record& record : records) record.of_this_run = false;
  }

  std::function<bool()> append_fails = [] { return false; };
  std::function<bool()> reading_fails = [] { return false; };
  std::vector<Record> records;
};

}  // namespace sluice::tests
