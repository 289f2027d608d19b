#include "ingest/line_splitter.hpp"

#include <algorithm>
#include <cstring>

namespace sluice::ingest {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";

// An empty carry keeps no more memory than this, so that thousands of quiet connections stay cheap.
constexpr std::size_t kIdleCarryBytesMax = 1024;

}  // namespace

bool LineSplitter::next(std::string_view& bytes, Line& line) {
  if (carry_is_done_) clear_carry();
  if (bytes.empty()) return false;

  const void* end = std::memchr(bytes.data(), '\n', bytes.size());
  if (end == nullptr) {
    keep(bytes);
    bytes = {};
    return false;
  }
  const auto length = static_cast<std::size_t>(static_cast<const char*>(end) - bytes.data());
  const std::string_view piece = bytes.substr(0, length);
  bytes.remove_prefix(length + 1);
  ++lines_;

  if (skipping_ || piece.size() > line_bytes_max_ - carry_.size()) {
    skipping_ = false;
    clear_carry();
    line = {LineKind::too_long, {}, lines_};
  } else if (carry_.empty()) {
    line = clean(piece);
  } else {
    keep(piece);
    carry_is_done_ = true;
    line = clean({carry_.data(), carry_.size()});
  }
  return true;
}

bool LineSplitter::finish() {
  if (carry_is_done_) clear_carry();
  const bool partial = in_line();
  skipping_ = false;
  clear_carry();
  return partial;
}

void LineSplitter::keep(std::string_view piece) {
  if (skipping_) return;
  if (piece.size() > line_bytes_max_ - carry_.size()) {
    skipping_ = true;
    clear_carry();
    return;
  }
  // A quarter of spare room: a line of a megabyte is copied a few times, and many half lines do not
  // take twice what they are counted for.
  const std::size_t bytes = carry_.size() + piece.size();
  if (carry_.capacity() < bytes) carry_.reserve(std::min(bytes + bytes / 4, line_bytes_max_));
  carry_.insert(carry_.end(), piece.begin(), piece.end());
}

void LineSplitter::clear_carry() {
  carry_is_done_ = false;
  if (carry_.capacity() > kIdleCarryBytesMax) {
    std::vector<char>().swap(carry_);
  } else {
    carry_.clear();
  }
}

Line LineSplitter::clean(std::string_view text) const {
  if (text.ends_with('\r')) text.remove_suffix(1);
  if (lines_ == 1 && text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  const bool blank = text.find_first_not_of(" \t") == std::string_view::npos;
  if (blank) return {LineKind::empty, {}, lines_};
  return {LineKind::whole, text, lines_};
}

}  // namespace sluice::ingest
