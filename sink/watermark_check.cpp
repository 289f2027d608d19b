#include "sink/watermark_check.hpp"

#include <algorithm>
#include <utility>

namespace sluice::sink {

std::span<const spool::Uuid> WatermarkCheck::begin(std::vector<spool::Position> expected,
                                                   Clock::time_point now) {
  due_at_ = now + kInterval;
  wanted_ = !expected.empty();
  if (expected.size() > kSegmentsMax) {
    const std::size_t first = turn_++ * kSegmentsMax % expected.size();
    std::rotate(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(first),
                expected.end());
    expected.resize(kSegmentsMax);
  }
  expected_ = std::move(expected);
  asked_.clear();
  for (const spool::Position& position : expected_) asked_.push_back(position.segment);
  return asked_;
}

std::vector<spool::Position> WatermarkCheck::lost(std::span<const spool::Position> found) const {
  std::vector<spool::Position> lost;
  for (const spool::Position& position : expected_) {
    const auto has = std::find_if(found.begin(), found.end(), [&](const spool::Position& each) {
      return each.segment == position.segment;
    });
    const std::uint64_t upto = has == found.end() ? 0 : has->index;
    if (upto < position.index) lost.push_back({position.segment, upto});
  }
  return lost;
}

}  // namespace sluice::sink
