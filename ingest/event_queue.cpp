#include "ingest/event_queue.hpp"

#include <concurrentqueue/concurrentqueue.h>

#include <cstddef>
#include <cstdint>
#include <deque>
#include <list>
#include <memory>
#include <new>
#include <utility>

namespace sluice::ingest {
namespace {

// What a producer may hand over in a round; what a larger chunk needs is saved up over rounds.
constexpr std::size_t kRoundBytes = 32 * 1024;
// Of those that were pushed, so many are put into their lines before each chunk that is taken.
constexpr int kSortedMax = 1024;

struct Item {
  spool::Chunk chunk;
  Origin origin;
};

// What waits of one producer. Thread: the consumer's.
struct Line {
  std::list<Item> items;
  bool stands = false;         // among those of its side that have, or had, something to give
  std::uint64_t round = 0;     // in which it was last allowed bytes,
  std::size_t bytes_left = 0;  // and what is left of them
};

// The chunks of producers that wait, or of those that do not. Deficit round robin, with those ahead
// that come anew and have bytes left in the round, as in fq_codel (RFC 8290). Counted in bytes: in
// turns of so many chunks each, a quiet producer that once had to wait for long, and had a backlog
// of small ones, was served more slowly than it wrote, and did not catch up for seconds.
class Side {
 public:
  // The line outlives its producer: so may its chunks. Thread: the producer's.
  [[nodiscard]] bool push(std::shared_ptr<Line> line, Item item) {
    return pushed_.enqueue({std::move(line), std::move(item)});
  }
  [[nodiscard]] bool take(Item& item);

 private:
  using Lines = std::deque<std::shared_ptr<Line>>;
  struct Pushed {
    std::shared_ptr<Line> line;
    Item item;
  };

  void sort();
  void stand(const std::shared_ptr<Line>& line);
  void end_turn();
  void allow_bytes(Line& line);

  moodycamel::ConcurrentQueue<Pushed> pushed_;
  Lines fresh_;              // came anew in this round
  Lines old_;                // take turns
  std::uint64_t round_ = 1;  // of old_
};

bool Side::take(Item& item) {
  sort();
  while (!fresh_.empty() || !old_.empty()) {
    Lines& lines = fresh_.empty() ? old_ : fresh_;
    Line& line = *lines.front();
    if (line.items.empty()) {
      line.stands = false;
      lines.pop_front();
    } else if (const std::size_t bytes = line.items.front().chunk.bytes().size();
               bytes <= line.bytes_left) {
      line.bytes_left -= bytes;
      item = std::move(line.items.front());
      line.items.pop_front();
      return true;
    } else if (&lines == &fresh_) {
      old_.push_back(std::move(fresh_.front()));
      fresh_.pop_front();
    } else {
      end_turn();
    }
  }
  return false;
}

void Side::sort() {
  Pushed pushed;
  for (int i = 0; i < kSortedMax && pushed_.try_dequeue(pushed); ++i) {
    pushed.line->items.push_back(std::move(pushed.item));
    if (!pushed.line->stands) stand(pushed.line);
  }
}

void Side::stand(const std::shared_ptr<Line>& line) {
  if (line->round != round_) {
    line->bytes_left = 0;  // not saved up by who had nothing to give
    allow_bytes(*line);
  }
  line->stands = true;
  fresh_.push_back(line);
}

// A line whose turn ends a second time in a round begins the next one.
void Side::end_turn() {
  Line& line = *old_.front();
  if (line.round == round_) ++round_;
  allow_bytes(line);
  old_.push_back(std::move(old_.front()));
  old_.pop_front();
}

void Side::allow_bytes(Line& line) {
  line.round = round_;
  line.bytes_left += kRoundBytes;
}

}  // namespace

struct EventQueue::Queue {
  Side patient;
  Side impatient;
  bool impatient_first = false;  // whose turn it is
};

struct EventQueue::Producer::Token {
  std::shared_ptr<Line> line = std::make_shared<Line>();
};

EventQueue::Producer::Producer() : token_(std::make_unique<Token>()) {}
EventQueue::Producer::~Producer() = default;

EventQueue::EventQueue(std::function<void()> on_push)
    : queue_(std::make_unique<Queue>()), on_push_(std::move(on_push)) {}
EventQueue::~EventQueue() = default;

std::unique_ptr<EventQueue::Producer> EventQueue::make_producer() {
  return std::make_unique<Producer>();
}

void EventQueue::push(Producer& producer, spool::Chunk chunk, Origin origin) {
  Side& side = origin.on_full == OnFull::wait ? queue_->patient : queue_->impatient;
  const bool pushed = side.push(producer.token_->line, {std::move(chunk), std::move(origin)});
  if (!pushed) throw std::bad_alloc();
  on_push_();
}

bool EventQueue::pop(spool::Chunk& chunk, Origin& origin) {
  Side* first = &queue_->patient;
  Side* second = &queue_->impatient;
  if (std::exchange(queue_->impatient_first, !queue_->impatient_first)) std::swap(first, second);
  Item item;
  if (!first->take(item) && !second->take(item)) return false;
  chunk = std::move(item.chunk);
  origin = std::move(item.origin);
  return true;
}

bool EventQueue::pop_impatient(spool::Chunk& chunk, Origin& origin) {
  Item item;
  if (!queue_->impatient.take(item)) return false;
  chunk = std::move(item.chunk);
  origin = std::move(item.origin);
  return true;
}

}  // namespace sluice::ingest
