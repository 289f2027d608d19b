// How far the lines of each named producer are durable: one number for each, of any age, up to a
// bound.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

namespace sluice::spool {

// A keyed hash of 128 bits of (uid, name).
struct ProducerKey {
  std::uint64_t first = 0;
  std::uint64_t second = 0;

  bool operator==(const ProducerKey&) const = default;
};

// The producer's lines up to `line` are durable. Lines count from 1.
struct ProducerMark {
  ProducerKey key;
  std::uint64_t line = 0;
};

// Threads: any.
class ProducerTable final {
 public:
  // When there are more than `producers_max`, the one whose last mark is oldest is forgotten.
  explicit ProducerTable(std::size_t producers_max) : producers_max_(producers_max) {}
  ProducerTable(const ProducerTable&) = delete;
  ProducerTable& operator=(const ProducerTable&) = delete;

  // The last line that is durable; 0 for a producer that is not known.
  [[nodiscard]] std::uint64_t have(const ProducerKey& key) const;
  // A line below what is known changes nothing but the age.
  void advance(std::span<const ProducerMark> marks);
  // All of them, the oldest mark first: what the head of a segment holds.
  [[nodiscard]] std::vector<ProducerMark> snapshot() const;
  [[nodiscard]] std::size_t size() const;

 private:
  struct KeyHash {
    std::size_t operator()(const ProducerKey& key) const { return key.first; }
  };
  using ByAge = std::list<ProducerMark>;

  const std::size_t producers_max_;
  mutable std::mutex mutex_;
  ByAge by_age_;  // the oldest mark first
  std::unordered_map<ProducerKey, ByAge::iterator, KeyHash> by_key_;
};

}  // namespace sluice::spool
