// Decides which connection may read, and how much, while memory is short.
#pragma once

#include <cstddef>
#include <deque>

#include "ingest/ingest_counters.hpp"
#include "spool/byte_budget.hpp"

namespace sluice::ingest {

// Two things run short. Room in the queue's budget: who finds none stands in a line, first come
// first served; but a quiet reader, one whose last read was small and left nothing behind, may take
// a little from a reserve of its own, so that its events do not wait behind those of connections
// that flood. And memory for lines whose end is still to come (carry): when it is used up, each
// connection may still keep kCarryFloorBytes, and one at a time holds a reserve and may read
// without a bound until its line is whole, so that many half lines cannot lock each other out.
//
// Threads: the ingest thread's. The budget's on_room() has to be brought there (see room_came()).
class ReadGate final {
 public:
  // A connection as the gate sees it. Leaves the gate before it is destroyed.
  class Reader {
   public:
    virtual ~Reader() = default;
    // ask() again: there may be room. May come for nothing, and may come twice.
    virtual void wake() = 0;

   private:
    friend class ReadGate;
    std::size_t carry_bytes_ = 0;
    bool quiet_ = true;
  };

  static constexpr std::size_t kReadBytesMax = 64 * 1024;
  static constexpr std::size_t kCarryFloorBytes = 4 * 1024;
  // A read of less is a quiet one; all of them together may go beyond the budget by a sixteenth.
  static constexpr std::size_t kQuietReadBytes = 4 * 1024;
  static constexpr std::size_t kQuietShare = 16;

  // REQUIRES: budget and counters outlive the gate.
  ReadGate(spool::ByteBudget& budget, std::size_t carry_bytes_max, IngestCounters& counters)
      : budget_(budget), carry_bytes_max_(carry_bytes_max), counters_(counters) {}
  ReadGate(const ReadGate&) = delete;
  ReadGate& operator=(const ReadGate&) = delete;

  // How many bytes the reader may read now, at most kReadBytesMax. 0: it stands in line, and wake()
  // tells when to ask again. After a read comes done().
  [[nodiscard]] std::size_t ask(Reader& reader);

  // What a reader that does not wait for room in the budget may do now.
  struct Grant {
    std::size_t bytes_max = 0;  // 0: as above
    bool has_room = false;      // if not, what it reads has to be turned away
  };
  [[nodiscard]] Grant ask_without_waiting(Reader& reader);

  // The reader has read `read_bytes`, pushed what it had, and keeps `carry_bytes` of a line under
  // way.
  void done(Reader& reader, std::size_t read_bytes, std::size_t carry_bytes);
  // The reader goes away, wherever it stands.
  void leave(Reader& reader);

  // The budget has called on_room().
  void room_came();

  // All that is kept of lines under way.
  [[nodiscard]] std::size_t carry_bytes() const { return carry_bytes_; }

 private:
  [[nodiscard]] bool grant_room(Reader& reader);
  [[nodiscard]] bool grant_quiet_room(Reader& reader);
  [[nodiscard]] std::size_t grant_carry(Reader& reader);
  void set_carry(Reader& reader, std::size_t carry_bytes);
  void hand_on_reserve();
  void hand_on_room();

  spool::ByteBudget& budget_;
  const std::size_t carry_bytes_max_;
  IngestCounters& counters_;
  // While somebody stands here, the budget owes an on_room() call or the front has been woken. The
  // front keeps its place until it has been granted room.
  std::deque<Reader*> room_line_;
  // While somebody stands here, another holds the reserve.
  std::deque<Reader*> carry_line_;
  Reader* reserve_holder_ = nullptr;
  std::size_t carry_bytes_ = 0;  // the sum over all readers
};

}  // namespace sluice::ingest
