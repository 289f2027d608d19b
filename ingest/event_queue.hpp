// The lock-free queue from the connections to the journal: many producers, one consumer that takes
// from them in turn.
#pragma once

#include <functional>
#include <memory>

#include "ingest/origin.hpp"
#include "spool/chunk.hpp"

namespace sluice::ingest {

// Bounded by the budget that its chunks are charged to, not by itself: moodycamel's try_enqueue is
// no bound. The order of one producer's chunks is kept; between producers the consumer goes in
// rounds, in which each hands over about 32 KiB, and one that has handed over less goes ahead of
// all: busy connections do not keep a quiet one waiting. Chunks of listeners that do not
// let producers wait (Origin::on_full) have a side of their own in the queue, so that they can be
// taken out alone; pop() takes from both in turn.
//
// REQUIRES: a producer's chunks all have the same on_full.
//
// Threads: a Producer belongs to one thread; pop() to the journal's thread. `on_push` is
// called on the producer's thread.
class EventQueue final {
 private:
  struct Queue;

 public:
  class Producer final {
   public:
    Producer();
    ~Producer();

   private:
    friend class EventQueue;
    struct Token;
    std::unique_ptr<Token> token_;
  };

  explicit EventQueue(std::function<void()> on_push);
  EventQueue(const EventQueue&) = delete;
  EventQueue& operator=(const EventQueue&) = delete;
  ~EventQueue();

  // REQUIRES: the queue outlives the producer.
  [[nodiscard]] std::unique_ptr<Producer> make_producer();
  void push(Producer& producer, spool::Chunk chunk, Origin origin);

  // False when the queue is empty.
  [[nodiscard]] bool pop(spool::Chunk& chunk, Origin& origin);
  // The next of those whose producers do not wait. False when there is none.
  [[nodiscard]] bool pop_impatient(spool::Chunk& chunk, Origin& origin);

 private:
  std::unique_ptr<Queue> queue_;
  std::function<void()> on_push_;
};

}  // namespace sluice::ingest
