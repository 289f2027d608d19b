// A run of event records in one buffer whose bytes are charged to a budget until it is freed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "spool/byte_budget.hpp"
#include "spool/event_record.hpp"

namespace sluice::spool {

// Filled by ingest (or read back from a file), edited once by the journal (ids, duplicates), read
// by a lane; then freed.
//
// Threads: one at a time; moving it to another thread hands it over whole.
class Chunk final {
 public:
  Chunk() = default;
  // REQUIRES: `budget` outlives the chunk. It is charged with `capacity_bytes` at once.
  Chunk(ByteBudget& budget, std::size_t capacity_bytes);
  // A copy of whole records that charges no budget: who reads a file back bounds its memory itself.
  [[nodiscard]] static Chunk copy_of(std::span<const std::byte> records, std::uint32_t count);
  Chunk(Chunk&& other) noexcept;
  Chunk& operator=(Chunk&& other) noexcept;
  ~Chunk();

  // Appends a record built from its parts; the text is `line` followed by `tail`. `header`'s sizes
  // and count are filled in here. Grows the buffer (and the charge) if need be.
  // REQUIRES: line.size() + tail.size() <= kTextBytesMax
  void append(const RecordHeader& header, std::span<const FieldSpan> fields, std::string_view line,
              std::string_view tail);

  // Calls `keep(RecordHeader&, std::span<FieldSpan>)` for each record in order and takes out those
  // for which it returns false.
  template <typename Keep>
  void retain(Keep&& keep) {
    std::size_t kept = 0;
    std::uint32_t count = 0;
    for (std::size_t at = 0; at < size_;) {
      auto* header = reinterpret_cast<RecordHeader*>(buffer_.get() + at);
      const std::size_t bytes = header->record_bytes;
      auto* fields = reinterpret_cast<FieldSpan*>(header + 1);
      if (keep(*header, std::span<FieldSpan>(fields, header->field_count))) {
        if (kept != at) std::memmove(buffer_.get() + kept, buffer_.get() + at, bytes);
        kept += bytes;
        ++count;
      }
      at += bytes;
    }
    size_ = kept;
    count_ = count;
  }

  [[nodiscard]] std::span<const std::byte> bytes() const { return {buffer_.get(), size_}; }
  [[nodiscard]] std::uint32_t count() const { return count_; }
  [[nodiscard]] bool empty() const { return count_ == 0; }
  [[nodiscard]] std::size_t capacity_bytes() const { return capacity_; }

 private:
  void grow(std::size_t capacity_bytes);
  void release() noexcept;

  ByteBudget* budget_ = nullptr;
  std::unique_ptr<std::byte[]> buffer_;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;  // charged to budget_; size_ <= capacity_
  std::uint32_t count_ = 0;   // records in [0, size_)
};

}  // namespace sluice::spool
