// A growable run of bytes that is written through a pointer: room is asked for once a row, not once
// a value.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>

namespace sluice::sink {

// Keeps its memory when it is cleared. Not a std::string: that would zero each byte before it is
// written.
class CopyBuffer final {
 public:
  // Room for `bytes` more bytes behind the content, valid until the next call of prepare().
  [[nodiscard]] char* prepare(std::size_t bytes) {
    if (capacity_ - size_ < bytes) grow(bytes);
    return bytes_.get() + size_;
  }
  // Adds what was written from prepare()'s pointer up to `end` to the content.
  void commit(const char* end) { size_ = static_cast<std::size_t>(end - bytes_.get()); }

  void append(std::string_view text) {
    char* const out = prepare(text.size());
    std::copy(text.begin(), text.end(), out);
    commit(out + text.size());
  }

  // Back to what the content was when it had this size. REQUIRES: bytes <= size()
  void truncate(std::size_t bytes) { size_ = bytes; }
  void clear() { size_ = 0; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::size_t capacity() const { return capacity_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] std::span<const std::byte> bytes() const {
    return std::as_bytes(std::span<const char>(bytes_.get(), size_));
  }

 private:
  void grow(std::size_t bytes) {
    const std::size_t capacity = std::max(size_ + bytes, capacity_ + capacity_ / 2);
    auto larger = std::make_unique_for_overwrite<char[]>(capacity);
    if (size_ != 0) std::memcpy(larger.get(), bytes_.get(), size_);
    bytes_ = std::move(larger);
    capacity_ = capacity;
  }

  std::unique_ptr<char[]> bytes_;
  std::size_t size_ = 0;  // size_ <= capacity_
  std::size_t capacity_ = 0;
};

}  // namespace sluice::sink
