// Counts newlines and walks over them.
#include "daemon/line_window.hpp"

#include <algorithm>

#include "daemon/line_reader.hpp"

namespace sluice::daemon {

namespace {

// The byte behind the `count`-th newline. REQUIRES: there are so many.
std::size_t behind_newlines(const std::string& bytes, std::uint64_t count) {
  std::size_t at = 0;
  for (; count > 0; --count) at = bytes.find('\n', at) + 1;
  return at;
}

}  // namespace

void LineWindow::append(std::string_view bytes) {
  if (bytes.empty()) return;
  const std::uint64_t first_line = last_line_ + 1;
  last_line_ += static_cast<std::uint64_t>(std::count(bytes.begin(), bytes.end(), '\n'));
  pieces_.push_back({first_line, last_line_, std::string(bytes)});
  bytes_ += bytes.size();
}

std::string_view LineWindow::unsent() const {
  if (sending_piece_ == pieces_.size()) return {};
  return std::string_view(pieces_[sending_piece_].bytes).substr(sending_at_);
}

void LineWindow::sent(std::size_t bytes) {
  sending_at_ += bytes;
  if (sending_at_ < pieces_[sending_piece_].bytes.size()) return;
  ++sending_piece_;
  sending_at_ = 0;
}

void LineWindow::rewind() {
  sending_piece_ = 0;
  sending_at_ = 0;
  if (pieces_.empty()) return;
  // The line after the last acked one is in the first piece: acked pieces are not kept.
  const Piece& piece = pieces_.front();
  sending_at_ = behind_newlines(piece.bytes, acked_ + 1 - piece.first_line);
}

void LineWindow::acked(std::uint64_t line) {
  acked_ = std::max(acked_, std::min(line, last_line_));
  while (!pieces_.empty() && pieces_.front().last_line <= acked_) {
    bytes_ -= pieces_.front().bytes.size();
    pieces_.pop_front();
    if (sending_piece_ > 0) {
      --sending_piece_;
    } else {
      sending_at_ = 0;
    }
  }
}

std::uint64_t LineWindow::blank_unacked() const {
  std::uint64_t blank = 0;
  for (const Piece& piece : pieces_) {
    const std::uint64_t acked = std::max(acked_ + 1, piece.first_line) - piece.first_line;
    std::string_view rest =
        std::string_view(piece.bytes).substr(behind_newlines(piece.bytes, acked));
    while (!rest.empty()) {
      const std::size_t newline = rest.find('\n');
      blank += is_blank_line(rest.substr(0, newline)) ? 1 : 0;
      rest.remove_prefix(newline + 1);
    }
  }
  return blank;
}

void LineWindow::start_after(std::uint64_t line) {
  acked_ = line;
  last_line_ = line;
}

}  // namespace sluice::daemon
