// Reads lines from a descriptor in large pieces, ready to be sent.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sluice::daemon {

// Whether a line, without its newline, holds nothing but spaces: it is no event.
[[nodiscard]] bool is_blank_line(std::string_view line);

// Of a line that is longer than the daemon takes only one byte more than that is given out: the
// daemon refuses it as it would the whole, and what has to be kept stays bounded. A last line
// without a newline gets one. Thread: one.
class LineReader final {
 public:
  // The descriptor stays the caller's.
  explicit LineReader(int fd);
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  [[nodiscard]] int descriptor() const { return fd_; }
  void set_line_bytes_max(std::size_t bytes) { line_bytes_max_ = bytes; }
  // The next so many lines are read and not given out.
  void skip_lines(std::uint64_t lines) { skip_ = lines; }
  // Lines that were to be skipped and have not come yet.
  [[nodiscard]] std::uint64_t left_to_skip() const { return skip_; }

  // One read(): the whole lines that it brought, possibly none of them, or nullopt at the end of
  // the input. Valid until the next call. Throws std::system_error.
  [[nodiscard]] std::optional<std::string_view> read();
  [[nodiscard]] bool ended() const { return ended_; }
  // Lines given out that hold nothing but spaces: no events.
  [[nodiscard]] std::uint64_t blank_lines() const { return blank_lines_; }
  [[nodiscard]] std::uint64_t bytes() const { return bytes_; }  // given out

 private:
  // Takes out of the `size` new bytes behind the tail what is cut or skipped; returns what is left.
  [[nodiscard]] std::size_t sieve(std::size_t size);
  void end_line();

  const int fd_;
  std::size_t line_bytes_max_ = 16u << 20;
  std::uint64_t skip_ = 0;
  bool ended_ = false;
  std::size_t open_bytes_ = 0;  // of the line whose end has not come, the cut ones included
  bool open_blank_ = true;
  std::uint64_t blank_lines_ = 0;
  std::uint64_t bytes_ = 0;
  // Given out were bytes [0, tail_begin_); the tail up to tail_end_ is the open line.
  std::string buffer_;
  std::size_t tail_begin_ = 0;
  std::size_t tail_end_ = 0;
};

}  // namespace sluice::daemon
