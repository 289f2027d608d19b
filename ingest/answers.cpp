#include "ingest/answers.hpp"

#include <algorithm>

namespace sluice::ingest {
namespace {

// An empty buffer keeps no more memory than this, so that thousands of quiet connections are cheap.
constexpr std::size_t kIdleBytesMax = 1024;
// Of a line that is one name and one number.
constexpr std::size_t kNumberLineBytesMax = 64;

}  // namespace

void Answers::say(std::string_view line) {
  write_pending();
  buffer_ += line;
}

void Answers::ack(std::uint64_t lines) {
  acked_ = std::max(acked_, lines);
}

void Answers::nack(std::uint64_t line, std::string_view code, bool retry, Nack keep) {
  std::string text = "{\"nack\":" + std::to_string(line) + ",\"code\":\"";
  text += code;
  text += retry ? "\",\"retry\":true}\n" : "\",\"retry\":false}\n";
  const std::size_t before_it = nacks_unsent_ != 0 ? kNumberLineBytesMax : 0;
  if (keep == Nack::if_it_fits && unsent_bytes() + before_it + text.size() > kBytesMax) {
    ++nacks_unsent_;
    add(counters_.nacks_unsent, 1);
    return;
  }
  write_nacks_unsent();
  if (buffer_.size() + text.size() > kBytesMax) forget_sent();
  buffer_ += text;
  add(counters_.nacks_sent, 1);
}

std::string_view Answers::next() {
  // One ack at a time: while it stands in the buffer, newer ones merge.
  if (acked_ > ack_said_ && ack_end_ <= begin_) write_pending();
  if (begin_ == buffer_.size()) write_nacks_unsent();
  return std::string_view(buffer_).substr(begin_);
}

void Answers::sent(std::size_t bytes) {
  begin_ += bytes;
  if (begin_ == buffer_.size()) forget_sent();
}

void Answers::write_pending() {
  write_nacks_unsent();
  if (acked_ == ack_said_) return;
  buffer_ += "{\"ack\":" + std::to_string(acked_) + "}\n";
  ack_said_ = acked_;
  ack_end_ = buffer_.size();
  add(counters_.acks_sent, 1);
}

void Answers::write_nacks_unsent() {
  if (nacks_unsent_ == 0) return;
  buffer_ += "{\"nacks_unsent\":" + std::to_string(nacks_unsent_) + "}\n";
  nacks_unsent_ = 0;
}

void Answers::forget_sent() {
  buffer_.erase(0, begin_);
  ack_end_ -= std::min(ack_end_, begin_);
  begin_ = 0;
  if (buffer_.empty() && buffer_.capacity() > kIdleBytesMax) std::string().swap(buffer_);
}

}  // namespace sluice::ingest
