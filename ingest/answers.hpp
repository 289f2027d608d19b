// What a producer that asked for acks is told, on its way to its socket: numbers in, lines of JSON
// out, in bounded memory however slowly they are read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ingest/ingest_counters.hpp"

namespace sluice::ingest {

// Acks are cumulative, so of those that were not sent only the newest is kept. Of nacks that were
// not sent, neighbouring lines with one reason are kept as one run, so that a producer which reads
// is told of each, however many lines a full spool turned away at once; runs beyond kRunsMax are
// counted and told as one number. An ack comes after the nacks that it covers.
//
// Thread: one.
class Answers final {
 public:
  static constexpr std::size_t kRunsMax = 1024;        // of nacks that are not in the buffer
  static constexpr std::size_t kBytesMax = 16 * 1024;  // of text made ahead of the socket

  // REQUIRES: `counters` outlives the answers.
  explicit Answers(IngestCounters& counters) : counters_(counters) {}
  Answers(const Answers&) = delete;
  Answers& operator=(const Answers&) = delete;

  // A line of its own, with its newline: always kept, and after everything before it.
  void say(std::string_view line);
  // The first `lines` lines are done with.
  void ack(std::uint64_t lines);
  enum class Nack {
    if_it_fits,
    always,  // kept as what is said: for few
  };
  // The line was refused; `retry`: sent again later, it may pass; `field`: which one it is about,
  // if it is about one.
  void nack(std::uint64_t line, std::string_view code, bool retry, Nack keep = Nack::if_it_fits,
            std::string_view field = {});

  // What to send now; empty: nothing. Valid until the next call.
  [[nodiscard]] std::string_view next();
  // So much of next() was sent.
  void sent(std::size_t bytes);
  // Whether there is nothing to send.
  [[nodiscard]] bool empty() const {
    return begin_ == buffer_.size() && !has_pending() && acked_ == ack_said_ && nacks_unsent_ == 0;
  }

 private:
  // Nacks of lines that follow each other, or a line to say.
  struct Pending {
    std::uint64_t first = 0;
    std::uint64_t last = 0;
    std::string text;  // the code; of a line to say, that
    bool retry = false;
    bool is_nack = false;
    std::string field;
  };

  [[nodiscard]] bool has_pending() const { return first_pending_ < pending_.size(); }
  [[nodiscard]] std::size_t unsent_bytes() const { return buffer_.size() - begin_; }
  void push(Pending pending);
  void push_nacks_unsent();
  void push_ack();
  void write_pending();
  void forget_sent();

  IngestCounters& counters_;
  std::string buffer_;              // [begin_, end) is still to be sent
  std::size_t begin_ = 0;           // <= buffer_.size()
  std::vector<Pending> pending_;    // to be written behind the buffer, from first_pending_ on
  std::size_t first_pending_ = 0;   // <= pending_.size()
  std::size_t ack_end_ = 0;         // where the last ack in the buffer ends; <= begin_: it was sent
  std::uint64_t acked_ = 0;         // the newest ack
  std::uint64_t ack_said_ = 0;      // the newest that is pending, in the buffer or was sent
  std::uint64_t nacks_unsent_ = 0;  // since the last time that the number was told
};

}  // namespace sluice::ingest
