// Tells rows that are bad by themselves from a table that has changed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace sluice::sink {

// For each route by its place, and for what no route takes: how many rows were refused with none
// passed between. The lanes share one.
//
// Thread: the sink's.
class RouteBrakes final {
 public:
  // So many in a row, and no more of them may be set aside as dead.
  static constexpr std::uint64_t kRefusedMax = 1'000;
  // The place of what no route takes; the routes' begin at 1.
  static constexpr std::size_t kUnrouted = 0;

  // `uid`: of the row's producer.
  void refused(std::size_t place, std::uint32_t uid) {
    Run& run = at(place);
    run.is_of_several = run.rows > 0 && (run.is_of_several || run.uid != uid);
    run.uid = uid;
    ++run.rows;
  }
  void passed(std::size_t place) { at(place) = {}; }
  [[nodiscard]] bool is_due(std::size_t place) { return at(place).rows >= kRefusedMax; }
  // Whose rows they all are; none: several producers'.
  [[nodiscard]] std::optional<std::uint32_t> only_producer(std::size_t place) {
    const Run& run = at(place);
    return run.is_of_several ? std::nullopt : std::optional(run.uid);
  }

 private:
  struct Run {
    std::uint64_t rows = 0;
    std::uint32_t uid = 0;
    bool is_of_several = false;
  };

  Run& at(std::size_t place) {
    if (runs_.size() <= place) runs_.resize(place + 1);
    return runs_[place];
  }

  std::vector<Run> runs_;
};

}  // namespace sluice::sink
