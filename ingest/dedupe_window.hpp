// Remembers the dedupe keys of the last minutes and says whether one was seen.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace sluice::ingest {

struct DedupeOptions {
  std::int64_t window_ms = 600'000;    // at most 2^31 ms
  std::uint64_t keys_max = 1'000'000;  // 0: nothing is remembered
};

// A keyed hash of 128 bits. Of a dedupe_key: both halves of it. Of a producer's id: the id's in
// `first`, the whole line's in `second`.
struct DedupeHash {
  std::uint64_t first;
  std::uint64_t second;

  bool operator==(const DedupeHash&) const = default;
};

// Bounded by time and by count: a ring in the order of insertion holds the entries, and a table of
// hash chains leads from the newest entry of a bucket to older ones. A chain ends where it reaches
// an entry that the ring has let go, so that expiring a key is nothing but moving the ring's tail.
// The ring's memory is taken and given back slab by slab.
//
// Memory: 4 to 8 bytes for each of keys_max from the start, and 24 bytes for each key in the
// window: 28.2 bytes a key with a million keys.
//
// Thread: one.
class DedupeWindow final {
 public:
  enum class Outcome {
    fresh,      // not seen in the window: it is remembered now
    duplicate,  // the same hash was seen
    conflict,  // only the first half was: an id that was used for another line. Remembered as well.
  };

  explicit DedupeWindow(DedupeOptions options);
  DedupeWindow(const DedupeWindow&) = delete;
  DedupeWindow& operator=(const DedupeWindow&) = delete;
  ~DedupeWindow();

  // `now_ms`: of a clock that never goes back.
  [[nodiscard]] Outcome insert(const DedupeHash& hash, std::int64_t now_ms);

  // Remembers a hash that was inserted `age_ms` ago by a process before this one.
  // REQUIRES: the oldest come first, and all of them before any insert().
  void restore(const DedupeHash& hash, std::int64_t age_ms, std::int64_t now_ms);

  // The window as it is now. What is inserted afterwards can be forgotten again, the newest first,
  // as if it had not been; what had to go to make room for it does not come back.
  struct Mark {
    std::uint64_t end;
    std::int64_t newest_ms;
  };
  [[nodiscard]] Mark mark() const { return {end_, newest_ms_}; }
  // REQUIRES: no rewind to an older mark since.
  void rewind(const Mark& mark);

  // Bring what insert() will look at for this hash into the cache: first the bucket, and when that
  // has come, the newest entry in it. Hints: they change nothing.
  void prefetch_bucket(const DedupeHash& hash) const;
  void prefetch_entry(const DedupeHash& hash) const;

  // Lets go keys older than the window: all at once if the newest is too old, else a bounded number
  // in one call.
  void expire(std::int64_t now_ms);

  [[nodiscard]] std::uint64_t keys() const { return end_ - begin_; }
  // How far back keys are remembered: the window, or less when keys_max made room for newer ones.
  [[nodiscard]] std::int64_t effective_window_ms(std::int64_t now_ms) const;
  [[nodiscard]] std::size_t memory_bytes() const;

 private:
  struct Entry {
    DedupeHash hash;
    std::uint32_t inserted_ms;  // modulo 2^32
    std::uint32_t to_older;  // distance in the ring to the next older entry of the bucket; 0: none
  };
  static_assert(sizeof(Entry) == 24);
  static constexpr std::uint64_t kSlabEntries = 16 * 1024;
  using Slab = std::unique_ptr<Entry[]>;

  [[nodiscard]] Entry& entry(std::uint64_t sequence) const {
    return slabs_[sequence / kSlabEntries % slabs_.size()][sequence % kSlabEntries];
  }
  [[nodiscard]] std::uint32_t& bucket(const DedupeHash& hash) const {
    return buckets_[hash.first & bucket_mask_];
  }
  [[nodiscard]] std::uint64_t newest_in(const std::uint32_t& bucket) const;
  [[nodiscard]] bool is_stale(const Entry& entry, std::int64_t now_ms) const;
  void append(const DedupeHash& hash, std::int64_t inserted_ms);
  void drop_newest();
  void drop_oldest();
  void drop_all();

  const DedupeOptions options_;
  std::uint64_t bucket_mask_ = 0;
  // The low half of the sequence number of the bucket's newest entry. It may have left the ring.
  std::unique_ptr<std::uint32_t[]> buckets_;
  std::vector<Slab> slabs_;
  // The ring holds the entries with sequence numbers in [begin_, end_); end_ - begin_ <= keys_max.
  std::uint64_t begin_ = 1;
  std::uint64_t end_ = 1;
  std::int64_t newest_ms_ = 0;  // when the entry before end_ was inserted
  bool cut_by_count_ = false;   // the last entry let go was still inside the window
};

}  // namespace sluice::ingest
