#include "sink/refused_rows.hpp"

#include <algorithm>
#include <utility>

namespace sluice::sink {

std::vector<RefusedRow>::iterator RefusedRows::at_or_above(std::uint64_t index) {
  return std::partition_point(rows_.begin(), rows_.end(),
                              [&](const RefusedRow& row) { return row.index < index; });
}

RefusedRow* RefusedRows::find(std::uint64_t index) {
  const auto found = at_or_above(index);
  return found != rows_.end() && found->index == index ? &*found : nullptr;
}

void RefusedRows::add(std::uint64_t index, Failure reason, spool::AsideState state) {
  rows_.insert(at_or_above(index), {index, std::move(reason), state, false});
}

void RefusedRows::recall(std::vector<spool::AsideEntry> entries) {
  rows_.clear();
  for (spool::AsideEntry& entry : entries) {
    rows_.push_back({entry.index,
                     {std::move(entry.sqlstate), std::move(entry.message), std::move(entry.column)},
                     entry.state,
                     entry.durable});
  }
}

std::uint64_t RefusedRows::recorded_between(std::uint64_t from, std::uint64_t upto) const {
  return static_cast<std::uint64_t>(
      std::count_if(rows_.begin(), rows_.end(), [&](const RefusedRow& row) {
        return row.recorded && row.index >= from && row.index < upto;
      }));
}

void RefusedRows::forget_below(std::uint64_t index) {
  rows_.erase(rows_.begin(), at_or_above(index));
}

}  // namespace sluice::sink
