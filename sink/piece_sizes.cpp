#include "sink/piece_sizes.hpp"

#include <algorithm>
#include <cmath>

namespace sluice::sink {

std::uint64_t PieceSizes::next() const {
  if (before_suspect_ > 0) return before_suspect_;
  if (suspects_ > 0) return (suspects_ + 1) / 2;
  const auto cheapest =
      static_cast<std::uint64_t>(std::sqrt(static_cast<double>(kRowsOfTrip * distance_)));
  // Halving sends a piece more often than a guess does.
  const std::uint64_t most = std::min({distance_, cheapest, kRowsMax}) / (is_told_ ? 1 : 2);
  return std::max<std::uint64_t>(1, most);
}

void PieceSizes::passed(std::uint64_t rows) {
  since_ += rows;
  distance_ = std::max(distance_, since_);
  if (since_ >= calm_rows_) in_pieces_ = false;
  const std::uint64_t before = std::min(before_suspect_, rows);
  before_suspect_ -= before;
  suspects_ -= std::min(suspects_, rows - before);
}

void PieceSizes::refused(std::uint64_t rows, std::uint64_t row) {
  if (!in_pieces_) {
    in_pieces_ = true;
    distance_ = rows;
    since_ = 0;
  }
  is_told_ = row != 0 && row <= rows;
  before_suspect_ = is_told_ ? row - 1 : 0;
  suspects_ = is_told_ ? 1 : rows;
}

void PieceSizes::found() {
  if (!in_pieces_) distance_ = since_ = 0;
  in_pieces_ = true;
  distance_ = std::max<std::uint64_t>(1, (distance_ + since_ + 1) / 2);
  since_ = 0;
  forget_suspects();
}

}  // namespace sluice::sink
