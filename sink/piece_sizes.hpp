// How many rows a lane sends at once while rows are refused: few enough that a refused one costs
// little, and fewer and fewer until it is found.
#pragma once

#include <cstdint>

namespace sluice::sink {

// A batch is sent in pieces, each below a savepoint, from the first refused row on until none was
// refused for a long time. When a piece is refused, the server often tells at which row; then those
// before it go again, and it goes alone. Else the piece is halved until one row is alone.
//
// Pieces are as long as the way between refused rows, or shorter: each refused row costs its piece
// once more, and each piece a round trip, which takes about as long as kRowsOfTrip rows.
//
// Thread: the sink's.
class PieceSizes final {
 public:
  static constexpr std::uint64_t kRowsOfTrip = 300;
  static constexpr std::uint64_t kRowsMax = 2'500;

  // `calm_rows`: so many rows without a refused one, and batches are whole again.
  explicit PieceSizes(std::uint64_t calm_rows) : calm_rows_(calm_rows) {}

  [[nodiscard]] bool in_pieces() const { return in_pieces_; }
  // The most rows that the next piece may have; never 0.
  [[nodiscard]] std::uint64_t next() const;

  // A piece of `rows` rows passed.
  void passed(std::uint64_t rows);
  // A piece of `rows` rows, at least two, was refused: for the one with the number `row`, from 1,
  // as the server says; 0: it does not say.
  void refused(std::uint64_t rows, std::uint64_t row);
  // A row was refused alone.
  void found();
  // What is sent next is not what was sent last.
  void forget_suspects() { before_suspect_ = suspects_ = 0; }

 private:
  std::uint64_t calm_rows_;
  bool in_pieces_ = false;
  bool is_told_ = true;               // where, the last time
  std::uint64_t distance_ = 0;        // between refused rows, about
  std::uint64_t since_ = 0;           // rows that passed since the last refused one
  std::uint64_t before_suspect_ = 0;  // rows that are to pass before the one that was told
  std::uint64_t suspects_ = 0;        // rows after these, one of which is to be refused
};

}  // namespace sluice::sink
