#include "spool/chunk.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

namespace sluice::spool {

Chunk::Chunk(ByteBudget& budget, std::size_t capacity_bytes) : budget_(&budget) {
  grow(capacity_bytes);
}

Chunk Chunk::copy_of(std::span<const std::byte> records, std::uint32_t count) {
  Chunk chunk;
  chunk.buffer_ = std::make_unique_for_overwrite<std::byte[]>(records.size());
  std::memcpy(chunk.buffer_.get(), records.data(), records.size());
  chunk.size_ = chunk.capacity_ = records.size();
  chunk.count_ = count;
  return chunk;
}

Chunk::Chunk(Chunk&& other) noexcept
    : budget_(std::exchange(other.budget_, nullptr)),
      buffer_(std::move(other.buffer_)),
      size_(std::exchange(other.size_, 0)),
      capacity_(std::exchange(other.capacity_, 0)),
      count_(std::exchange(other.count_, 0)) {}

Chunk& Chunk::operator=(Chunk&& other) noexcept {
  if (this == &other) return *this;
  release();
  budget_ = std::exchange(other.budget_, nullptr);
  buffer_ = std::move(other.buffer_);
  size_ = std::exchange(other.size_, 0);
  capacity_ = std::exchange(other.capacity_, 0);
  count_ = std::exchange(other.count_, 0);
  return *this;
}

Chunk::~Chunk() {
  release();
}

void Chunk::release() noexcept {
  buffer_.reset();
  if (budget_ != nullptr && capacity_ != 0) budget_->give_back(capacity_);
  capacity_ = 0;
}

void Chunk::grow(std::size_t capacity_bytes) {
  auto larger = std::make_unique_for_overwrite<std::byte[]>(capacity_bytes);
  if (size_ != 0) std::memcpy(larger.get(), buffer_.get(), size_);
  budget_->take(capacity_bytes - capacity_);
  buffer_ = std::move(larger);
  capacity_ = capacity_bytes;
}

void Chunk::append(const RecordHeader& header, std::span<const FieldSpan> fields,
                   std::string_view line, std::string_view tail) {
  const std::size_t bytes = record_bytes(fields.size(), line.size() + tail.size());
  if (capacity_ - size_ < bytes) grow(std::max(size_ + bytes, capacity_ + capacity_ / 2));

  std::byte* at = buffer_.get() + size_;
  RecordHeader whole = header;
  whole.record_bytes = static_cast<std::uint32_t>(bytes);
  whole.line_bytes = static_cast<std::uint32_t>(line.size());
  whole.tail_bytes = static_cast<std::uint32_t>(tail.size());
  whole.field_count = static_cast<std::uint16_t>(fields.size());
  std::memcpy(at, &whole, sizeof whole);
  at += sizeof whole;
  if (!fields.empty()) std::memcpy(at, fields.data(), fields.size_bytes());
  at += fields.size_bytes();
  std::memcpy(at, line.data(), line.size());
  at += line.size();
  if (!tail.empty()) std::memcpy(at, tail.data(), tail.size());
  at += tail.size();
  std::memset(at, 0, static_cast<std::size_t>(buffer_.get() + size_ + bytes - at));

  size_ += bytes;
  ++count_;
}

}  // namespace sluice::spool
