// Where each event's record stands in the aside files, and what became of it since.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "spool/aside.hpp"

namespace sluice::spool {

// What became of a record's event since it was set aside, as far as this process knows.
enum class AsideFate : std::uint8_t {
  open,       // nothing
  delivered,  // its row is in its table; the record stays a while, as a failover may lose the row
  lost,       // it was delivered, and the database forgot it: to be tried again, whatever the state
  done,       // to be taken out of the files: purged, or delivered long ago
};

// Memory: 32 bytes for each record.
//
// Thread: the sink's.
class AsideIndex final {
 public:
  struct Record {
    std::uint64_t index = 0;
    std::uint64_t offset = 0;  // of its line
    std::uint32_t file = 0;    // the n of its name
    AsideState state = AsideState::dead;
    AsideFate fate = AsideFate::open;
    std::uint32_t delivered_s = 0;  // when this was known, in the caller's seconds

    [[nodiscard]] AsidePlace place() const { return {file, offset}; }
  };
  // Of all records, by what they are now.
  struct Counts {
    std::array<std::uint64_t, kAsideStateCount> by_state{};  // of those that are open or lost
    std::uint64_t delivered = 0;
  };

  // The record is written there: the last one of an event counts, and its fate is open.
  void note(const Position& position, const AsidePlace& place, AsideState state);
  // The line is copied to another place. REQUIRES: there is a record.
  void move(const Position& position, const AsidePlace& place);
  // Forgets the records for which `forgotten(record)` is true.
  template <typename Forgotten>
  void forget_if(Forgotten&& forgotten) {
    for (auto segment = segments_.begin(); segment != segments_.end();) {
      std::erase_if(segment->second.records, forgotten);
      segment = segment->second.records.empty() ? segments_.erase(segment) : std::next(segment);
    }
  }
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (const auto& [id, segment] : segments_) {
      for (const Record& record : segment.records) visit(record);
    }
  }

  // Valid until the next change; null: there is none.
  [[nodiscard]] const Record* find(const Position& position) const;
  // By rising index.
  [[nodiscard]] std::span<const Record> records_of(const Uuid& segment) const;
  [[nodiscard]] std::vector<AsideTry> to_try(const AsidePlace& after, std::size_t count) const;
  [[nodiscard]] bool has_waiting() const;
  [[nodiscard]] Counts counts() const;

  void delivered(const Position& position, std::uint32_t now_s);
  void done(const Position& position);
  // For those for which `is_done(record)` is true.
  template <typename IsDone>
  void done_if(IsDone&& is_done) {
    for (auto& [id, segment] : segments_) {
      for (Record& record : segment.records) {
        if (is_done(std::as_const(record))) record.fate = AsideFate::done;
      }
    }
  }
  [[nodiscard]] std::vector<RedeliveredCount> redelivered() const;
  // As AsideQueue::found_redelivered().
  std::uint64_t found_redelivered(const Uuid& segment, std::span<const std::uint64_t> indexes,
                                  std::uint32_t now_s);

 private:
  struct Segment {
    std::vector<Record> records;    // by rising index
    std::uint64_t redelivered = 0;  // that many rows the database has of it, or must have
  };

  [[nodiscard]] Record* find_mutable(const Position& position);

  std::map<Uuid, Segment> segments_;
};

}  // namespace sluice::spool
