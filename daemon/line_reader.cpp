// Looks for each newline once; bytes move only behind lines that are cut or skipped, and the open
// line at the end of a piece once.
#include "daemon/line_reader.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

namespace sluice::daemon {

namespace {

constexpr std::size_t kPieceBytes = 256 * 1024;

}  // namespace

bool is_blank_line(std::string_view line) {
  return std::all_of(line.begin(), line.end(),
                     [](char c) { return c == ' ' || c == '\t' || c == '\r'; });
}

LineReader::LineReader(int fd) : fd_(fd) {}

std::optional<std::string_view> LineReader::read() {
  if (ended_) return std::nullopt;
  const std::size_t tail = tail_end_ - tail_begin_;
  // One byte more: the newline that the last line may lack.
  if (buffer_.size() < tail + kPieceBytes + 1) buffer_.resize(tail + kPieceBytes + 1);
  std::memmove(buffer_.data(), buffer_.data() + tail_begin_, tail);
  tail_begin_ = 0;
  tail_end_ = tail;

  const ssize_t got = ::read(fd_, buffer_.data() + tail, kPieceBytes);
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return std::string_view{};
  if (got < 0) throw std::system_error(errno, std::generic_category(), "reading the input");
  auto size = static_cast<std::size_t>(got);
  if (size == 0) {
    ended_ = true;
    if (open_bytes_ == 0) return std::nullopt;
    buffer_[tail + size++] = '\n';
  }
  tail_end_ = tail + sieve(size);
  const std::size_t newline = std::string_view(buffer_.data(), tail_end_).rfind('\n');
  tail_begin_ = newline == std::string_view::npos ? 0 : newline + 1;
  bytes_ += tail_begin_;
  return std::string_view(buffer_.data(), tail_begin_);
}

std::size_t LineReader::sieve(std::size_t size) {
  char* const bytes = buffer_.data() + tail_end_;
  std::size_t out = 0;
  for (std::size_t at = 0; at < size;) {
    const auto* newline = static_cast<const char*>(std::memchr(bytes + at, '\n', size - at));
    const std::size_t end = newline ? static_cast<std::size_t>(newline - bytes) : size;
    const std::size_t body = end - at;
    if (skip_ == 0) {
      const std::size_t room = line_bytes_max_ + 1 - std::min(open_bytes_, line_bytes_max_ + 1);
      const std::size_t kept = std::min(body, room);
      open_blank_ = open_blank_ && is_blank_line({bytes + at, kept});
      if (out != at) std::memmove(bytes + out, bytes + at, kept);
      out += kept;
      if (newline) bytes[out++] = '\n';
    }
    open_bytes_ += body;
    if (newline) end_line();
    at = newline ? end + 1 : size;
  }
  return out;
}

void LineReader::end_line() {
  if (skip_ > 0) {
    --skip_;
  } else if (open_blank_) {
    ++blank_lines_;
  }
  open_bytes_ = 0;
  open_blank_ = true;
}

}  // namespace sluice::daemon
