// What of an event no column takes whole, as one JSON object.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "sink/column_value.hpp"
#include "sink/route.hpp"
#include "spool/event_record.hpp"

namespace sluice::sink {

// Everything that a producer sent and that the route does not take goes there, so that nothing is
// lost: unknown members, known fields that no column takes, a `data` of which columns take only
// parts, an `id` that the route does not want.
//
// Thread: one, as for the events.
class ExtraMembers final {
 public:
  // `bound` are the columns' as bind_columns() returned them, one each.
  ExtraMembers(std::span<const Column> columns, std::span<const BoundColumn> bound);

  // True: nothing but the event's extra runs ever goes there.
  [[nodiscard]] bool takes_only_runs() const;

  // Finds what goes there of the event; `whole` are members of its extra runs, in their order,
  // with their keys, that columns take.
  void gather(const spool::EventView& event, std::span<const std::string_view> whole);

  // Of the event gathered last.
  [[nodiscard]] bool empty() const { return pieces_.empty(); }
  // The bytes that write() takes at most, mending included.
  [[nodiscard]] std::size_t bytes_max(unsigned flags) const;
  // The object; returns its end. REQUIRES: !empty()
  char* write(char* out, unsigned flags) const;

 private:
  static constexpr std::size_t kFieldCount = 8;

  struct Piece {
    std::string_view key;   // `"name":`, or empty where the text holds its keys
    std::string_view text;  // of the line
  };

  void add_run(std::string_view run, std::span<const std::string_view> whole);
  void add_members(const char* begin, const char* end);
  void add_time(const spool::EventView& event);

  std::array<bool, kFieldCount> takes_{};  // by spool::Field
  bool takes_time_ = false;
  std::vector<Piece> pieces_;
};

}  // namespace sluice::sink
