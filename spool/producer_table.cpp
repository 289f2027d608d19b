#include "spool/producer_table.hpp"

#include <algorithm>

namespace sluice::spool {

std::uint64_t ProducerTable::have(const ProducerKey& key) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? 0 : found->second->line;
}

void ProducerTable::advance(std::span<const ProducerMark> marks) {
  const std::lock_guard lock(mutex_);
  for (const ProducerMark& mark : marks) {
    const auto found = by_key_.find(mark.key);
    if (found == by_key_.end()) {
      by_key_.emplace(mark.key, by_age_.insert(by_age_.end(), mark));
    } else {
      found->second->line = std::max(found->second->line, mark.line);
      by_age_.splice(by_age_.end(), by_age_, found->second);
    }
    if (by_key_.size() > producers_max_) {
      by_key_.erase(by_age_.front().key);
      by_age_.pop_front();
    }
  }
}

std::vector<ProducerMark> ProducerTable::snapshot() const {
  const std::lock_guard lock(mutex_);
  return {by_age_.begin(), by_age_.end()};
}

std::size_t ProducerTable::size() const {
  const std::lock_guard lock(mutex_);
  return by_key_.size();
}

}  // namespace sluice::spool
