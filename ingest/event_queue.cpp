#include "ingest/event_queue.hpp"

#include <concurrentqueue/concurrentqueue.h>

#include <atomic>
#include <memory>
#include <new>
#include <optional>
#include <utility>

namespace sluice::ingest {
namespace {

struct QueueTraits : moodycamel::ConcurrentQueueDefaultTraits {
  // Two items, then the next producer: this is what makes the consumer fair. Not one: the count of
  // a producer that took the turn of an empty one starts at 1, would never be equal to the quota,
  // and that producer would be drained before any other.
  static const std::uint32_t EXPLICIT_CONSUMER_CONSUMPTION_QUOTA_BEFORE_ROTATE = 2;
  // Few chunks of one connection wait at a time; small blocks keep a thousand connections cheap.
  static const size_t BLOCK_SIZE = 16;
};

// A chunk of fewer bytes may go ahead of the others' turns.
constexpr std::size_t kSmallChunkBytes = 8 * 1024;

// How many chunks of one producer are in the queue. It outlives the producer: so may its chunks.
using Waiting = std::shared_ptr<std::atomic<std::uint32_t>>;

struct Item {
  spool::Chunk chunk;
  Origin origin;
  Waiting waiting;
};
using ItemQueue = moodycamel::ConcurrentQueue<Item, QueueTraits>;

// The chunks of producers that wait, or of those that do not.
struct Side {
  // Chunks that are small and the only one of their producer: a busy producer's never are, and so a
  // quiet one does not wait until each of the busy ones had its turn. No order can be lost, since
  // nothing of the same producer is ahead.
  ItemQueue small;
  ItemQueue items;
  moodycamel::ConsumerToken consumer{items};
  // Taken from `items` when `small` was no longer empty.
  std::optional<Item> put_back;

  bool take(Item& item);
};

// An item may have come right after its producer's small chunk, and both after the first look at
// `small`: so a second look follows, and the item waits until nothing is ahead of it.
bool Side::take(Item& item) {
  if (small.try_dequeue(item)) return true;
  if (put_back) {
    item = std::move(*put_back);
    put_back.reset();
    return true;
  }
  if (!items.try_dequeue(consumer, item)) return false;
  Item ahead;
  if (small.try_dequeue(ahead)) put_back = std::exchange(item, std::move(ahead));
  return true;
}

void hand_out(Item& item, spool::Chunk& chunk, Origin& origin) {
  chunk = std::move(item.chunk);
  origin = std::move(item.origin);
  item.waiting->fetch_sub(1, std::memory_order_release);
}

}  // namespace

struct EventQueue::Queue {
  Side patient;
  Side impatient;
  bool impatient_first = false;  // whose turn it is
};

struct EventQueue::Producer::Token {
  // In the items of its side; made by the first push, which tells the side.
  std::optional<moodycamel::ProducerToken> token;
  Waiting waiting = std::make_shared<std::atomic<std::uint32_t>>(0);
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
  Producer::Token& token = *producer.token_;
  // Acquire: what pop() took before it let the count go to zero is out of the queue.
  const bool alone = token.waiting->fetch_add(1, std::memory_order_acquire) == 0;
  const bool ahead = alone && chunk.bytes().size() < kSmallChunkBytes;
  Item item{std::move(chunk), std::move(origin), token.waiting};
  if (!ahead && !token.token) token.token.emplace(side.items);
  const bool pushed = ahead ? side.small.enqueue(std::move(item))
                            : side.items.enqueue(*token.token, std::move(item));
  if (!pushed) throw std::bad_alloc();
  on_push_();
}

bool EventQueue::pop(spool::Chunk& chunk, Origin& origin) {
  Side* first = &queue_->patient;
  Side* second = &queue_->impatient;
  if (std::exchange(queue_->impatient_first, !queue_->impatient_first)) std::swap(first, second);
  Item item;
  if (!first->take(item) && !second->take(item)) return false;
  hand_out(item, chunk, origin);
  return true;
}

bool EventQueue::pop_impatient(spool::Chunk& chunk, Origin& origin) {
  Item item;
  if (!queue_->impatient.take(item)) return false;
  hand_out(item, chunk, origin);
  return true;
}

}  // namespace sluice::ingest
