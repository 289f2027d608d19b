// Lets connections that have more to read go on one at a time.
#pragma once

#include <deque>
#include <functional>
#include <utility>

namespace sluice::ingest {

// If each of those that flood put its next turn straight into the loop's queue, whoever becomes
// readable would stand behind all of them, and its ack once more. So they stand here, and the
// loop's queue holds one turn of theirs: everything else comes in between.
//
// Thread: the ingest thread's.
class TurnLine final {
 public:
  class Waiter {
   public:
    virtual ~Waiter() = default;
    virtual void take_turn() = 0;
  };

  // `call_next` has next() called soon, behind what the loop has in its queue.
  explicit TurnLine(std::function<void()> call_next) : call_next_(std::move(call_next)) {}
  TurnLine(const TurnLine&) = delete;
  TurnLine& operator=(const TurnLine&) = delete;

  // The waiter's take_turn() is called once, when it has come to the front.
  void enter(Waiter& waiter);
  void leave(Waiter& waiter) { std::erase(line_, &waiter); }
  void next();

 private:
  void ask_for_next();

  const std::function<void()> call_next_;
  bool next_is_due_ = false;  // call_next_ was called, next() was not
  std::deque<Waiter*> line_;  // while somebody stands here, next() is due
};

}  // namespace sluice::ingest
