// Cuts one connection's bytes into lines: bytes in as they were read, whole lines out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace sluice::ingest {

enum class LineKind {
  whole,     // has text
  empty,     // nothing, or only spaces and tabs
  too_long,  // longer than line_bytes_max: skipped, its text is gone
};

struct Line {
  LineKind kind = LineKind::empty;
  std::string_view text;     // of a whole line: without LF, one CR before it, and a leading BOM
  std::uint64_t number = 0;  // from 1; every LF counts
};

// Lines that lie wholly inside the bytes fed are handed on without a copy; only the start of a line
// whose end is still to come is kept. A line that grows too long is skipped in constant memory and
// told once, when its LF comes.
//
// Thread: one.
class LineSplitter final {
 public:
  // The limit counts every byte before the LF.
  explicit LineSplitter(std::size_t line_bytes_max) : line_bytes_max_(line_bytes_max) {}
  LineSplitter(const LineSplitter&) = delete;
  LineSplitter& operator=(const LineSplitter&) = delete;

  // Calls `handle(const Line&)` for each line that ends in `bytes`. The text lives during the call.
  template <typename Handle>
  void feed(std::string_view bytes, Handle&& handle) {
    Line line;
    while (next(bytes, line)) handle(static_cast<const Line&>(line));
  }

  // Bytes kept of a line whose end is still to come. The memory is at most a quarter more.
  [[nodiscard]] std::size_t carry_bytes() const { return carry_.size(); }
  // True when a line has begun whose end is still to come, kept or being skipped.
  [[nodiscard]] bool in_line() const { return skipping_ || !carry_.empty(); }
  // How many lines have ended.
  [[nodiscard]] std::uint64_t lines() const { return lines_; }
  // The stream has ended. True when it ended in the middle of a line.
  [[nodiscard]] bool finish();

 private:
  // Takes the next line off the front of `bytes`; false when there is none: the rest is kept.
  [[nodiscard]] bool next(std::string_view& bytes, Line& line);
  void keep(std::string_view piece);
  void clear_carry();
  [[nodiscard]] Line clean(std::string_view text) const;

  const std::size_t line_bytes_max_;
  std::vector<char> carry_;     // the start of the line under way
  bool carry_is_done_ = false;  // carry_ is the text of the line handed on last
  bool skipping_ = false;       // inside a line that is too long; then carry_ is empty
  std::uint64_t lines_ = 0;     // LFs seen
};

}  // namespace sluice::ingest
