// The lines that were read and are not acked yet, numbered, so that they can be sent again over a
// new connection.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

namespace sluice::daemon {

// Bytes are kept in the pieces in which they came; lines are counted, not listed. Lines have the
// numbers that the producer gives them. Thread: one.
class LineWindow final {
 public:
  // Lines count from 1. The bound is soft by one piece.
  explicit LineWindow(std::size_t bytes_max) : bytes_max_(bytes_max) {}
  LineWindow(const LineWindow&) = delete;
  LineWindow& operator=(const LineWindow&) = delete;

  // The first line that is appended will be the one after this. REQUIRES: nothing was appended.
  void start_after(std::uint64_t line);
  // REQUIRES: whole lines.
  void append(std::string_view bytes);
  [[nodiscard]] bool has_room() const { return bytes_ < bytes_max_; }

  // What comes next on the connection; empty when all was sent. Valid until the next change.
  [[nodiscard]] std::string_view unsent() const;
  // The first so many bytes of unsent() are on their way.
  void sent(std::size_t bytes);
  // Sending begins anew with the first line that is not acked.
  void rewind();

  // Every line up to this one is done with. A number that was told before changes nothing.
  void acked(std::uint64_t line);
  [[nodiscard]] std::uint64_t acked() const { return acked_; }
  // The number of the last line that was appended.
  [[nodiscard]] std::uint64_t last_line() const { return last_line_; }
  [[nodiscard]] bool all_acked() const { return acked_ == last_line_; }
  // How many of the lines that are not acked hold nothing but spaces. Looks at all of them.
  [[nodiscard]] std::uint64_t blank_unacked() const;

 private:
  struct Piece {
    std::uint64_t first_line;
    std::uint64_t last_line;
    std::string bytes;
  };

  std::uint64_t acked_ = 0;
  std::uint64_t last_line_ = 0;
  std::deque<Piece> pieces_;
  std::size_t sending_piece_ = 0;  // index into pieces_; pieces_.size(): all was sent
  std::size_t sending_at_ = 0;     // byte of that piece
  std::size_t bytes_ = 0;          // of all pieces
  const std::size_t bytes_max_;
};

}  // namespace sluice::daemon
