#include "ingest/answers.hpp"

#include <algorithm>
#include <utility>

namespace sluice::ingest {
namespace {

// An empty buffer keeps no more memory than this, so that thousands of quiet connections are cheap.
constexpr std::size_t kIdleBytesMax = 1024;

// A field's name comes from the configuration and may hold anything.
void append_field(std::string& text, std::string_view field) {
  if (field.empty()) return;
  constexpr std::string_view kHex = "0123456789abcdef";
  text += "\",\"field\":\"";
  for (const char c : field) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20) {
      text += {'\\', 'u', '0', '0', kHex[byte >> 4], kHex[byte & 15]};
      continue;
    }
    if (c == '"' || c == '\\') text += '\\';
    text += c;
  }
}

void append_nack(std::string& text, std::uint64_t line, std::string_view code,
                 std::string_view field, bool retry) {
  text += "{\"nack\":";
  text += std::to_string(line);
  text += ",\"code\":\"";
  text += code;
  append_field(text, field);
  text += retry ? "\",\"retry\":true}\n" : "\",\"retry\":false}\n";
}

}  // namespace

void Answers::say(std::string_view line) {
  push_nacks_unsent();
  push_ack();
  push({.text = std::string(line), .field = {}});
}

void Answers::ack(std::uint64_t lines) {
  acked_ = std::max(acked_, lines);
}

void Answers::nack(std::uint64_t line, std::string_view code, bool retry, Nack keep,
                   std::string_view field) {
  if (has_pending() && nacks_unsent_ == 0) {
    Pending& run = pending_.back();
    if (run.is_nack && run.last + 1 == line && run.text == code && run.retry == retry &&
        run.field == field) {
      run.last = line;
      return add(counters_.nacks_sent, 1);
    }
  }
  if (keep == Nack::if_it_fits && pending_.size() - first_pending_ >= kRunsMax) {
    ++nacks_unsent_;
    return add(counters_.nacks_unsent, 1);
  }
  push_nacks_unsent();
  push({line, line, std::string(code), retry, true, std::string(field)});
  add(counters_.nacks_sent, 1);
}

std::string_view Answers::next() {
  write_pending();
  if (!has_pending()) {
    // One ack at a time: while it stands in the buffer, newer ones merge.
    const bool ack_is_sent = ack_end_ <= begin_;
    if ((acked_ > ack_said_ && ack_is_sent) || begin_ == buffer_.size()) push_nacks_unsent();
    if (ack_is_sent) push_ack();
    write_pending();
  }
  return std::string_view(buffer_).substr(begin_);
}

void Answers::sent(std::size_t bytes) {
  begin_ += bytes;
  if (begin_ == buffer_.size()) forget_sent();
}

void Answers::push(Pending pending) {
  if (first_pending_ > kRunsMax) {
    pending_.erase(pending_.begin(),
                   pending_.begin() + static_cast<std::ptrdiff_t>(first_pending_));
    first_pending_ = 0;
  }
  pending_.push_back(std::move(pending));
}

void Answers::push_ack() {
  if (acked_ == ack_said_) return;
  ack_said_ = acked_;
  push({.text = "{\"ack\":" + std::to_string(acked_) + "}\n", .field = {}});
  add(counters_.acks_sent, 1);
}

void Answers::push_nacks_unsent() {
  if (nacks_unsent_ == 0) return;
  push({.text = "{\"nacks_unsent\":" + std::to_string(nacks_unsent_) + "}\n", .field = {}});
  nacks_unsent_ = 0;
}

// As text, as far as the buffer goes.
void Answers::write_pending() {
  if (has_pending() && begin_ != 0) forget_sent();
  while (has_pending() && unsent_bytes() < kBytesMax) {
    Pending& front = pending_[first_pending_];
    if (front.is_nack) {
      append_nack(buffer_, front.first, front.text, front.field, front.retry);
      if (front.first++ < front.last) continue;
    } else {
      buffer_ += front.text;
      ack_end_ = buffer_.size();
    }
    ++first_pending_;
  }
  if (!has_pending() && !pending_.empty()) {
    std::vector<Pending>().swap(pending_);
    first_pending_ = 0;
  }
}

void Answers::forget_sent() {
  buffer_.erase(0, begin_);
  ack_end_ -= std::min(ack_end_, begin_);
  begin_ = 0;
  if (buffer_.empty() && buffer_.capacity() > kIdleBytesMax) std::string().swap(buffer_);
}

}  // namespace sluice::ingest
