#include "ingest/dedupe_window.hpp"

#include <algorithm>
#include <bit>

namespace sluice::ingest {
namespace {

// Entries let go in one expire(): a slice, so that no call takes long after a quiet time.
constexpr int kExpireSlice = 64;

}  // namespace

DedupeWindow::DedupeWindow(DedupeOptions options) : options_(options) {
  if (options_.keys_max == 0) return;
  const std::uint64_t buckets = std::bit_ceil(options_.keys_max);
  bucket_mask_ = buckets - 1;
  buckets_ = std::make_unique<std::uint32_t[]>(buckets);
  // One more than the entries fill, as the ring's ends may both lie inside a slab.
  slabs_.resize(options_.keys_max / kSlabEntries + 2);
}

DedupeWindow::~DedupeWindow() = default;

DedupeWindow::Outcome DedupeWindow::insert(const DedupeHash& hash, std::int64_t now_ms) {
  if (options_.keys_max == 0) return Outcome::fresh;
  expire(now_ms);

  bool first_half_seen = false;
  std::uint64_t sequence = newest_in(bucket(hash));
  while (sequence >= begin_ && sequence < end_) {
    const Entry& candidate = entry(sequence);
    if (is_stale(candidate, now_ms)) break;  // all older ones are stale too
    if (candidate.hash == hash) return Outcome::duplicate;
    first_half_seen = first_half_seen || candidate.hash.first == hash.first;
    if (candidate.to_older == 0) break;
    sequence -= candidate.to_older;
  }
  append(hash, now_ms);
  return first_half_seen ? Outcome::conflict : Outcome::fresh;
}

void DedupeWindow::restore(const DedupeHash& hash, std::int64_t age_ms, std::int64_t now_ms) {
  if (options_.keys_max == 0 || age_ms > options_.window_ms) return;
  // The ring is in the order of time, even if the clock that the ages were told by was not.
  const std::int64_t inserted_ms = now_ms - std::max<std::int64_t>(age_ms, 0);
  append(hash, begin_ == end_ ? inserted_ms : std::max(inserted_ms, newest_ms_));
}

void DedupeWindow::rewind(const Mark& mark) {
  // Entries may have left at the other end meanwhile, even the one that the mark stood at.
  while (end_ > mark.end && end_ > begin_) drop_newest();
  newest_ms_ = mark.newest_ms;
}

void DedupeWindow::prefetch_bucket(const DedupeHash& hash) const {
  if (buckets_) __builtin_prefetch(&bucket(hash));
}

void DedupeWindow::prefetch_entry(const DedupeHash& hash) const {
  if (!buckets_) return;
  const std::uint64_t sequence = newest_in(bucket(hash));
  if (sequence >= begin_ && sequence < end_) __builtin_prefetch(&entry(sequence));
}

void DedupeWindow::expire(std::int64_t now_ms) {
  // Told by all 64 bits: after 49 quiet days the entries' 32 would look fresh again.
  if (now_ms - newest_ms_ > options_.window_ms) return drop_all();
  for (int i = 0; i < kExpireSlice && begin_ != end_ && is_stale(entry(begin_), now_ms); ++i) {
    drop_oldest();
    cut_by_count_ = false;
  }
}

std::int64_t DedupeWindow::effective_window_ms(std::int64_t now_ms) const {
  if (!cut_by_count_ || begin_ == end_) return options_.window_ms;
  const std::uint32_t age = static_cast<std::uint32_t>(now_ms) - entry(begin_).inserted_ms;
  return std::min<std::int64_t>(age, options_.window_ms);
}

std::size_t DedupeWindow::memory_bytes() const {
  const auto slabs = std::count_if(slabs_.begin(), slabs_.end(), [](const Slab& s) { return !!s; });
  return static_cast<std::size_t>(slabs) * kSlabEntries * sizeof(Entry) +
         (buckets_ ? (bucket_mask_ + 1) * sizeof(std::uint32_t) : 0);
}

// The whole sequence number: the greatest one up to end_ with these low bits. Sequence numbers
// start at 1, so an empty bucket leads to 0, or to one that left the ring long ago.
std::uint64_t DedupeWindow::newest_in(const std::uint32_t& bucket) const {
  const std::uint32_t back = static_cast<std::uint32_t>(end_) - bucket;
  return back > end_ ? 0 : end_ - back;
}

bool DedupeWindow::is_stale(const Entry& entry, std::int64_t now_ms) const {
  const std::uint32_t age = static_cast<std::uint32_t>(now_ms) - entry.inserted_ms;
  return age > options_.window_ms;
}

void DedupeWindow::append(const DedupeHash& hash, std::int64_t inserted_ms) {
  if (keys() == options_.keys_max) {
    drop_oldest();
    cut_by_count_ = true;
  }
  Slab& slab = slabs_[end_ / kSlabEntries % slabs_.size()];
  if (!slab) slab = std::make_unique_for_overwrite<Entry[]>(kSlabEntries);

  std::uint32_t& newest = bucket(hash);
  const std::uint64_t older = newest_in(newest);
  // An older entry that has the bucket's number only by chance (its own has left) is harmless: it
  // is compared by its hash like any other.
  const bool linked = older >= begin_ && older < end_;
  entry(end_) = {hash, static_cast<std::uint32_t>(inserted_ms),
                 linked ? static_cast<std::uint32_t>(end_ - older) : 0};
  newest = static_cast<std::uint32_t>(end_);
  newest_ms_ = inserted_ms;
  ++end_;
}

// The bucket leads again to where it led before; if that entry has left the ring, nowhere.
void DedupeWindow::drop_newest() {
  --end_;
  const Entry& newest = entry(end_);
  const std::uint64_t older = newest.to_older == 0 ? begin_ - 1 : end_ - newest.to_older;
  bucket(newest.hash) = static_cast<std::uint32_t>(older);
  if (end_ % kSlabEntries == 0) slabs_[end_ / kSlabEntries % slabs_.size()].reset();
}

void DedupeWindow::drop_oldest() {
  ++begin_;
  if (begin_ % kSlabEntries == 0) slabs_[(begin_ / kSlabEntries - 1) % slabs_.size()].reset();
}

void DedupeWindow::drop_all() {
  if (begin_ == end_) return;
  begin_ = end_;
  for (Slab& slab : slabs_) slab.reset();
  cut_by_count_ = false;
}

}  // namespace sluice::ingest
