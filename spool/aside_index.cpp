#include "spool/aside_index.hpp"

#include <algorithm>

namespace sluice::spool {
namespace {

template <typename Records>
auto at_or_above(Records& records, std::uint64_t index) {
  return std::partition_point(records.begin(), records.end(),
                              [&](const auto& record) { return record.index < index; });
}

bool is_to_be_tried(const AsideIndex::Record& record) {
  switch (record.fate) {
    case AsideFate::open:
      return record.state != AsideState::dead;
    case AsideFate::lost:
      return true;
    case AsideFate::delivered:
    case AsideFate::done:
      return false;
  }
  return false;
}

}  // namespace

const AsideIndex::Record* AsideIndex::find(const Position& position) const {
  const auto segment = segments_.find(position.segment);
  if (segment == segments_.end()) return nullptr;
  const auto record = at_or_above(segment->second.records, position.index);
  const bool is_there = record != segment->second.records.end() && record->index == position.index;
  return is_there ? &*record : nullptr;
}

AsideIndex::Record* AsideIndex::find_mutable(const Position& position) {
  return const_cast<Record*>(find(position));
}

void AsideIndex::note(const Position& position, const AsidePlace& place, AsideState state) {
  const Record noted{position.index, place.offset, place.file, state, AsideFate::open, 0};
  if (Record* const known = find_mutable(position)) {
    *known = noted;
    return;
  }
  std::vector<Record>& records = segments_[position.segment].records;
  records.insert(at_or_above(records, position.index), noted);
}

void AsideIndex::move(const Position& position, const AsidePlace& place) {
  Record* const record = find_mutable(position);
  record->file = place.file;
  record->offset = place.offset;
}

std::span<const AsideIndex::Record> AsideIndex::records_of(const Uuid& segment) const {
  const auto found = segments_.find(segment);
  if (found == segments_.end()) return {};
  return found->second.records;
}

std::vector<AsideTry> AsideIndex::to_try(const AsidePlace& after, std::size_t count) const {
  std::vector<AsideTry> tries;
  for (const auto& [id, segment] : segments_) {
    for (const Record& record : segment.records) {
      if (!is_to_be_tried(record) || record.place() <= after) continue;
      tries.push_back({{id, record.index}, record.place(), record.state});
    }
  }
  const auto first = [](const AsideTry& a, const AsideTry& b) { return a.place < b.place; };
  count = std::min(count, tries.size());
  std::partial_sort(tries.begin(), tries.begin() + static_cast<std::ptrdiff_t>(count), tries.end(),
                    first);
  tries.resize(count);
  return tries;
}

bool AsideIndex::has_waiting() const {
  return std::any_of(segments_.begin(), segments_.end(), [](const auto& segment) {
    const auto& records = segment.second.records;
    return std::any_of(records.begin(), records.end(), [](const Record& record) {
      return record.state == AsideState::waiting && is_to_be_tried(record);
    });
  });
}

AsideIndex::Counts AsideIndex::counts() const {
  Counts counts;
  for (const auto& [id, segment] : segments_) {
    for (const Record& record : segment.records) {
      if (record.fate == AsideFate::delivered) {
        ++counts.delivered;
      } else if (record.fate != AsideFate::done) {
        ++counts.by_state[static_cast<std::size_t>(record.state)];
      }
    }
  }
  return counts;
}

void AsideIndex::delivered(const Position& position, std::uint32_t now_s) {
  Record* const record = find_mutable(position);
  if (record == nullptr || record->fate == AsideFate::delivered) return;
  record->fate = AsideFate::delivered;
  record->delivered_s = now_s;
  ++segments_[position.segment].redelivered;
}

void AsideIndex::done(const Position& position) {
  if (Record* const record = find_mutable(position)) record->fate = AsideFate::done;
}

std::vector<RedeliveredCount> AsideIndex::redelivered() const {
  std::vector<RedeliveredCount> counts;
  for (const auto& [id, segment] : segments_) counts.push_back({id, segment.redelivered});
  return counts;
}

std::uint64_t AsideIndex::found_redelivered(const Uuid& segment,
                                            std::span<const std::uint64_t> indexes,
                                            std::uint32_t now_s) {
  const auto found = segments_.find(segment);
  if (found == segments_.end()) return 0;
  std::uint64_t lost = 0;
  for (Record& record : found->second.records) {
    const bool is_there = std::binary_search(indexes.begin(), indexes.end(), record.index);
    if (is_there && (record.fate == AsideFate::open || record.fate == AsideFate::lost)) {
      record.fate = AsideFate::delivered;
      record.delivered_s = now_s;
    } else if (!is_there && record.fate == AsideFate::delivered) {
      record.fate = AsideFate::lost;
      ++lost;
    }
  }
  found->second.redelivered = indexes.size();
  return lost;
}

}  // namespace sluice::spool
