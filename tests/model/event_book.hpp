// What the producers of a history sent, and what they were promised.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "spool/block.hpp"
#include "spool/event_record.hpp"

namespace sluice::model {

// The daemon broke a promise.
class Broken : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct SentEvent {
  std::size_t sender = 0;
  std::uint64_t run = 0;      // of the daemon, in which it was sent first
  bool promised = false;      // acked, or told by `have`
  bool may_be_lost = false;   // whatever was promised: its spool was replaced by an old copy
  bool may_be_twice = false;  // nothing can know that it was sent twice
};

// Events are numbered from 0 in a history; the number is in the event's id, and so in its row.
class EventBook {
 public:
  std::uint64_t open(std::size_t sender) {
    events_.push_back({.sender = sender, .run = run});
    return events_.size() - 1;
  }
  std::uint64_t run = 0;  // counts the daemon's starts

  [[nodiscard]] SentEvent& at(std::uint64_t number) { return events_[number]; }
  [[nodiscard]] std::vector<SentEvent>& all() { return events_; }

  // The bytes at a position never change: neither where they are written nor where they are read,
  // in whatever run.
  void identify(const spool::Position& position, const spool::EventView& event) {
    const std::string_view bytes(reinterpret_cast<const char*>(event.bytes()),
                                 event.header().record_bytes);
    const std::uint64_t hash = std::hash<std::string_view>{}(bytes);
    const auto [found, is_new] = hashes_.try_emplace(position, hash);
    if (!is_new && found->second != hash) {
      throw Broken("index " + std::to_string(position.index) + " of a segment has other bytes now");
    }
  }

 private:
  struct PositionHash {
    std::size_t operator()(const spool::Position& position) const {
      std::uint64_t half;
      std::memcpy(&half, position.segment.bytes.data() + 8, sizeof half);
      return half + position.index * 0x9e3779b97f4a7c15;
    }
  };

  std::vector<SentEvent> events_;
  std::unordered_map<spool::Position, std::uint64_t, PositionHash> hashes_;
};

}  // namespace sluice::model
