// The half of a connection that talks back: numbers the lines of a producer that asked for acks,
// follows in its ledger what becomes of them, and writes the answers to its socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "ingest/ack_ledger.hpp"
#include "ingest/answers.hpp"
#include "ingest/ingest_counters.hpp"
#include "ingest/origin.hpp"
#include "ingest/refusal.hpp"
#include "spool/producer_table.hpp"

namespace sluice::ingest {

// Lines are numbered from 1 after the hello.
//
// Thread: the ingest thread's; only `on_progress` comes from anywhere.
class AckSession final {
 public:
  // A producer that waits for commits is not read on while more of its chunks are under way.
  static constexpr std::size_t kChunksWaitingMax = 256;

  // `on_progress` asks for a call of follow(). REQUIRES: `counters` outlives the session.
  AckSession(AckStage stage, std::function<void()> on_progress, IngestCounters& counters);
  AckSession(const AckSession&) = delete;
  AckSession& operator=(const AckSession&) = delete;

  // The producer has a name, and the first line is its line number `first`.
  void name_producer(const spool::ProducerKey& key, std::uint64_t first);

  // Notes in the origin of a chunk that is about to be pushed whose lines it holds, up to
  // `last_line`.
  void enter_chunk(Origin& origin, std::uint64_t last_line);
  // A line that does not come to the queue; `field`: which one the refusal is about, if any.
  void refused(std::uint64_t line, Refusal code, std::string_view field = {});
  // Whether no line of this connection may be stored any more: its producer has a name, and one of
  // its lines found no room. Were a later one stored, the number that is kept for the name would
  // pass that line, and sent again it would count as a duplicate.
  [[nodiscard]] bool takes_no_more() const {
    return producer_ && (had_no_room_ || ledger_->has_turned_away());
  }
  // All lines up to this one were refused, were empty, or were pushed.
  void handled(std::uint64_t line);
  // The line that was under way was given up, as nothing came of it for too long.
  void timed_out(std::uint64_t line);

  // A line of its own, with its newline.
  void say(std::string_view line) { answers_.say(line); }
  // Takes from the ledger what is new.
  void follow();
  // The closing line. REQUIRES: is_done().
  void summarise();

  // Whether every line that was read is done with, and follow() knows.
  [[nodiscard]] bool is_done() const { return acked_ == handled_; }
  // Whether its producer should not be read on until follow() was called.
  [[nodiscard]] bool is_crowded() const;

  enum class Sent {
    everything,
    some,  // the socket takes no more at the moment
    gone,  // nobody is there to read
  };
  [[nodiscard]] Sent send_to(int socket);
  [[nodiscard]] bool has_unsent() const { return !answers_.empty(); }

 private:
  const std::shared_ptr<AckLedger> ledger_;
  Answers answers_;
  std::optional<spool::ProducerKey> producer_;
  std::uint64_t line_offset_ = 0;  // of the producer's own numbers to the connection's
  std::uint64_t handled_ = 0;
  std::uint64_t acked_ = 0;  // <= handled_
  std::uint64_t stored_ = 0;
  std::uint64_t duplicates_ = 0;
  std::uint64_t refused_ = 0;
  bool had_no_room_ = false;  // a line was refused for want of room
};

}  // namespace sluice::ingest
