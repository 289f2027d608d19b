// One lane with a fake server, fake set-aside records and a clock that jumps to what it waits for.
#pragma once

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>
#include <vector>

#include "sink/lane.hpp"
#include "tests/unit/lane_fixture.hpp"

namespace sluice::tests {

class LaneBench {
 public:
  explicit LaneBench(sink::LaneOptions options = {}, sink::Route route = kRoute)
      : LaneBench(std::move(options), std::vector{std::move(route)}) {}
  LaneBench(sink::LaneOptions options, std::vector<sink::Route> routes)
      : options_(std::move(options)), routes_(std::move(routes)) {
    options_.aside = &aside;
    restart();
  }
  void restart() {
    aside.restart();
    lane_ = {};
    database_ = std::make_unique<FakeDatabase>(server);
    lane_ = std::make_unique<sink::Lane>(options_, routes_, reader, *database_, breaker_, reporter);
  }
  // False: the lane waits for nothing but I/O and new events.
  bool turn() {
    const sink::Lane::Wait wait = lane_->turn(now);
    if (wait.until) now = std::max(now, *wait.until);
    return wait.until.has_value();
  }
  // The clock stands still.
  void turn_without_time() { (void)lane_->turn(now); }
  // The server closes it.
  void close_connection() { database_->closed_by_server = true; }
  void pass(sink::Clock::duration time) {
    for (const auto end = now + time; now < end;) {
      if (!turn()) now = end;
    }
  }
  void run(int turns) {
    for (int i = 0; i < turns; ++i) turn();
  }
  [[nodiscard]] bool drain(int turns_max = 100'000) {
    for (int i = 0; i < turns_max && reader.events_held() != 0; ++i) turn();
    return reader.events_held() == 0;
  }
  // The indexes that have a record below their segment's watermark, each once.
  Numbers valid_records() {
    Numbers indexes;
    for (const FakeAside::Record& record : aside.records) {
      const std::uint64_t* const upto = server.watermarks.find(record.position.segment);
      if (upto != nullptr && record.position.index < *upto) {
        indexes.push_back(record.position.index);
      }
    }
    std::sort(indexes.begin(), indexes.end());
    indexes.erase(std::unique(indexes.begin(), indexes.end()), indexes.end());
    return indexes;
  }
  Numbers all_but(std::uint64_t end, const Numbers& refused) {
    Numbers numbers = numbers_upto(end);
    std::erase_if(numbers, [&](std::uint64_t number) {
      return std::binary_search(refused.begin(), refused.end(), number);
    });
    return numbers;
  }

  KeepingReader reader;
  FakeAside aside;
  FakeServer server;
  RecordingReporter reporter;
  sink::Clock::time_point now{std::chrono::hours(1)};

 private:
  sink::LaneOptions options_;
  const std::vector<sink::Route> routes_;
  sink::Breaker breaker_;
  std::unique_ptr<FakeDatabase> database_;
  std::unique_ptr<sink::Lane> lane_;
};

}  // namespace sluice::tests
