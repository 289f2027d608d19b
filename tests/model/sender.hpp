// A producer of the model: sends events over one connection after the other, and remembers what it
// was promised.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "ingest/event_queue.hpp"
#include "spool/byte_budget.hpp"
#include "spool/producer_table.hpp"
#include "tests/model/event_book.hpp"
#include "tests/model/tally.hpp"
#include "tests/support/seeded_random.hpp"

namespace sluice::model {

enum class SenderKind {
  keyed,            // gives keys, and sends again what was not acked
  keyed_committed,  // the same, and waits for commits
  keyed_rejected,   // the same, on a listener that rejects when the spool is full
  named,            // numbers its lines, and goes on after `have`
  plain,            // asks for acks, and sends nothing twice
  silent,           // asks for nothing
  dropped,          // the same, on a listener that drops when the spool is full
};
inline constexpr std::size_t kSenderKinds = 7;

// Whether the event's row is in the table, or set aside for good.
using IsStored = std::function<bool(std::uint64_t number)>;

class Sender {
 public:
  // REQUIRES: all outlive the sender. `index` is its own in the history.
  Sender(SenderKind kind, std::size_t index, EventBook& book, Tally& tally,
         tests::SeededRandom& random, IsStored is_stored);
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;

  [[nodiscard]] SenderKind kind() const { return kind_; }

  // A new connection to a daemon with these; one that is in doubt may know of less than was acked.
  // What was not acked on the last will be sent again. REQUIRES: disconnect() before they go.
  void connect(ingest::EventQueue& queue, spool::ByteBudget& budget,
               const spool::ProducerTable& producers, bool is_in_doubt = false);
  void disconnect();

  // One chunk: of what has to be sent again, else of new events.
  void send(std::int64_t now_us);
  // A chunk of events that were acked before, with their keys.
  void send_duplicates(std::int64_t now_us);
  [[nodiscard]] bool can_send_duplicates() const;
  [[nodiscard]] bool has_to_send_again() const;
  // Every line that waits for an answer has it.
  [[nodiscard]] bool is_answered() const;
  // The next connection of a named producer begins a few lines before what it was told.
  void forget_have() { forgets_have_ = true; }
  // Disconnects, forgets what it sent, sends none of it again, and takes another name.
  void start_over();

 private:
  struct Connection {
    std::unique_ptr<ingest::EventQueue::Producer> queue;
    std::shared_ptr<ingest::AckLedger> ledger;  // none: did not ask
    std::vector<std::uint64_t> lines;           // the event of each line
    std::vector<bool> refused;                  // each line
    std::uint64_t acked_lines = 0;
    std::uint64_t line_offset = 0;
  };

  [[nodiscard]] bool has_keys() const { return kind_ <= SenderKind::keyed_rejected; }
  [[nodiscard]] std::vector<std::uint64_t> next_events();
  void send_lines(const std::vector<std::uint64_t>& numbers, std::int64_t now_us);
  void append_record(spool::Chunk& chunk, std::uint64_t number, std::uint32_t line_delta,
                     std::int64_t now_us);
  void greet_by_name(const spool::ProducerTable& producers, bool is_in_doubt);
  void read_acks(Connection& connection);
  void promise(std::uint64_t number);

  const SenderKind kind_;
  const std::size_t index_;
  spool::ProducerKey name_;
  EventBook& book_;
  Tally& tally_;
  tests::SeededRandom& random_;
  const IsStored is_stored_;

  ingest::EventQueue* queue_ = nullptr;
  spool::ByteBudget* budget_ = nullptr;
  std::shared_ptr<Connection> connection_;
  std::deque<std::uint64_t> again_;     // events to send again, keyed
  std::vector<std::uint64_t> acked_;    // keyed: of these duplicates may be sent
  std::vector<std::uint64_t> history_;  // named: the event of each line, from its first ever on
  std::size_t next_line_ = 0;           // named: the place in history_ that is sent next
  bool forgets_have_ = false;
};

}  // namespace sluice::model
