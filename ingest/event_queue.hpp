// The lock-free queue from the connections to the journal: many producers, one consumer that takes
// from them in turn.
#pragma once

#include <functional>
#include <memory>

#include "spool/chunk.hpp"

namespace sluice::ingest {

// Bounded by the budget that its chunks are charged to, not by itself: moodycamel's try_enqueue is
// no bound. The order of one producer's chunks is kept; between producers the consumer takes a
// chunk or two from each in turn, and a small chunk that is its producer's only one goes ahead of
// all, so that busy connections do not keep a quiet one waiting.
//
// Threads: a Producer belongs to one thread at a time; pop() to the journal's thread. `on_push` is
// called on the producer's thread.
class EventQueue final {
 private:
  struct Queue;

 public:
  class Producer final {
   public:
    // REQUIRES: the queue outlives the producer.
    explicit Producer(EventQueue& queue);
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

  [[nodiscard]] std::unique_ptr<Producer> make_producer();
  void push(Producer& producer, spool::Chunk chunk);

  // False when the queue is empty.
  [[nodiscard]] bool pop(spool::Chunk& chunk);

 private:
  std::unique_ptr<Queue> queue_;
  std::function<void()> on_push_;
};

}  // namespace sluice::ingest
