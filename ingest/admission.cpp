#include "ingest/admission.hpp"

#include <algorithm>
#include <iterator>

namespace sluice::ingest {
namespace {

bool has_key(const spool::RecordHeader& header) {
  return (header.flags & (spool::kHasDedupeKey | spool::kHasIdKey)) != 0;
}

DedupeHash key_of(const spool::RecordHeader& header) {
  return {header.dedupe_hash[0], header.dedupe_hash[1]};
}

// How far ahead of the record at hand a chunk is fetched: what memory gives while a few records are
// looked at.
constexpr std::size_t kFetchedAheadBytes = 2048;
constexpr std::size_t kCacheLineBytes = 64;

// The chunk comes from another core's cache, and only a record tells where the next one begins, so
// that each would be waited for: its lines are asked for before. All of them will be read, for the
// checksum at the latest.
class FetchAhead {
 public:
  explicit FetchAhead(std::span<const std::byte> bytes) : bytes_(bytes) {}

  // The record there is at hand now.
  void look_at(std::size_t at) {
    const std::size_t end = std::min(at + kFetchedAheadBytes, bytes_.size());
    for (; fetched_ < end; fetched_ += kCacheLineBytes) {
      constexpr int kForReading = 0;
      constexpr int kIntoSecondLevel = 2;
      __builtin_prefetch(bytes_.data() + fetched_, kForReading, kIntoSecondLevel);
    }
  }

 private:
  const std::span<const std::byte> bytes_;
  std::size_t fetched_ = 0;
};

template <typename Visit>
void for_each_key(const spool::Chunk& chunk, Visit&& visit) {
  const auto bytes = chunk.bytes();
  FetchAhead ahead(bytes);
  for (std::size_t at = 0; at < bytes.size();) {
    ahead.look_at(at);
    const spool::RecordHeader& header = spool::EventView(bytes.data() + at).header();
    if (has_key(header)) visit(key_of(header));
    at += header.record_bytes;
  }
}

}  // namespace

// The window's table is far larger than the cache: asked for one by one, each key would wait for
// its bucket and then for the entry that it leads to. Two passes ahead fetch both for all of a
// chunk.
std::uint64_t Admission::admit(spool::Chunk& chunk, const Origin& origin,
                               const spool::SpoolTime& now) {
  for_each_key(chunk, [&](const DedupeHash& hash) { dedupe_.prefetch_bucket(hash); });
  for_each_key(chunk, [&](const DedupeHash& hash) { dedupe_.prefetch_entry(hash); });
  const std::uint64_t offered = chunk.count();
  if (!origin.producer) {
    chunk.retain([&](spool::RecordHeader& header, std::span<spool::FieldSpan> fields) {
      return is_new(header, fields, now);
    });
  } else {
    std::uint64_t& line = pending_line(*origin.producer);
    chunk.retain([&](spool::RecordHeader& header, std::span<spool::FieldSpan> fields) {
      const std::uint64_t own = origin.first_line + line_delta(header) + origin.line_offset;
      if (own <= line) return false;
      line = own;
      return is_new(header, fields, now);
    });
  }
  return offered - chunk.count();
}

bool Admission::is_new(spool::RecordHeader& header, std::span<spool::FieldSpan> fields,
                       const spool::SpoolTime& now) {
  if (has_key(header)) {
    switch (dedupe_.insert(key_of(header), now.steady_ms)) {
      case DedupeWindow::Outcome::fresh:
        break;
      case DedupeWindow::Outcome::duplicate:
        return false;
      case DedupeWindow::Outcome::conflict:
        if ((header.flags & spool::kHasIdKey) == 0) break;  // two keys whose hashes share a half
        ++id_conflicts_;
        header.flags = static_cast<std::uint8_t>(header.flags & ~spool::kHasId);
        for (spool::FieldSpan& field : fields) {
          if (field.field == static_cast<std::uint32_t>(spool::Field::id_member)) {
            field.field = static_cast<std::uint32_t>(spool::Field::extra) & 0xff;
          }
        }
        break;
    }
  }
  if ((header.flags & spool::kHasId) == 0) header.id = ids_.next(now.unix_us);
  return true;
}

// From the back: the chunks of one producer mostly follow each other.
std::uint64_t& Admission::pending_line(const spool::ProducerKey& producer) {
  const auto found =
      std::find_if(pending_marks_.rbegin(), pending_marks_.rend(),
                   [&](const spool::ProducerMark& mark) { return mark.key == producer; });
  if (found != pending_marks_.rend()) return found->line;
  pending_marks_.push_back({producer, producers_.have(producer)});
  return pending_marks_.back().line;
}

std::vector<spool::ProducerMark> Admission::marks() const {
  std::vector<spool::ProducerMark> further;
  std::copy_if(
      pending_marks_.begin(), pending_marks_.end(), std::back_inserter(further),
      [&](const spool::ProducerMark& mark) { return mark.line > producers_.have(mark.key); });
  return further;
}

void Admission::rewind(const Mark& mark) {
  dedupe_.rewind(mark.keys);
  pending_marks_ = mark.marks;
  id_conflicts_ = mark.id_conflicts;
}

void Admission::settle() {
  if (!pending_marks_.empty()) producers_.advance(pending_marks_);
  pending_marks_.clear();
  add(counters_.id_conflicts, id_conflicts_);
  id_conflicts_ = 0;
}

}  // namespace sluice::ingest
