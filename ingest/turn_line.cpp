#include "ingest/turn_line.hpp"

namespace sluice::ingest {

void TurnLine::enter(Waiter& waiter) {
  line_.push_back(&waiter);
  ask_for_next();
}

void TurnLine::next() {
  next_is_due_ = false;
  if (line_.empty()) return;
  Waiter& first = *line_.front();
  line_.pop_front();
  first.take_turn();
  if (!line_.empty()) ask_for_next();
}

void TurnLine::ask_for_next() {
  if (!std::exchange(next_is_due_, true)) call_next_();
}

}  // namespace sluice::ingest
