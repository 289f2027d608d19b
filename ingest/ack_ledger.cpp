#include "ingest/ack_ledger.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace sluice::ingest {

AckLedger::AckLedger(AckStage stage, std::function<void()> on_progress)
    : stage_(stage), on_progress_(std::move(on_progress)) {}

AckLedger::Ticket AckLedger::push(std::uint64_t last_line) {
  const std::lock_guard lock(mutex_);
  pushed_.push_back({last_line});
  return first_ticket_ + pushed_.size() - 1;
}

void AckLedger::handled(std::uint64_t line) {
  {
    const std::lock_guard lock(mutex_);
    handled_line_ = line;
    if (!pushed_.empty() || acked_ >= line) return;
    acked_ = line;
  }
  tell();
}

std::size_t AckLedger::outstanding() const {
  const std::lock_guard lock(mutex_);
  return pushed_.size();
}

AckLedger::Progress AckLedger::take_progress() {
  // Before looking: what comes after the look must be told again.
  told_ = false;
  const std::lock_guard lock(mutex_);
  return {acked_, stored_, duplicates_, std::exchange(nacks_, {}),
          std::exchange(refused_rows_, {})};
}

void AckLedger::durable(Ticket ticket, std::uint64_t stored, std::uint64_t duplicates) {
  bool more = false;
  {
    const std::lock_guard lock(mutex_);
    stored_ += stored;
    duplicates_ += duplicates;
    if (stage_ == AckStage::durable) more = finish_locked(ticket);
  }
  if (more) tell();
}

void AckLedger::turned_away(Ticket ticket, std::span<const Lines> lines, Refusal code) {
  has_turned_away_.store(true, std::memory_order_relaxed);
  {
    const std::lock_guard lock(mutex_);
    for (const Lines& run : lines) {
      // Joined where they meet, so that a producer that never reads costs little.
      if (!nacks_.empty() && nacks_.back().code == code &&
          nacks_.back().last_line + 1 == run.first) {
        nacks_.back().last_line = run.last;
      } else {
        nacks_.push_back({run.first, run.last, code});
      }
    }
    (void)finish_locked(ticket);
  }
  tell();
}

void AckLedger::row_refused(std::uint64_t line, std::string_view sqlstate) {
  {
    const std::lock_guard lock(mutex_);
    --stored_;
    refused_rows_.push_back({line, std::string(sqlstate)});
  }
  tell();
}

void AckLedger::committed(Ticket ticket) {
  bool more = false;
  {
    const std::lock_guard lock(mutex_);
    more = finish_locked(ticket);
  }
  if (more) tell();
}

// Tickets end in any order (their blocks lie in several lanes); lines are acked from the first on.
bool AckLedger::finish_locked(Ticket ticket) {
  const std::uint64_t place = ticket - first_ticket_;
  if (place >= pushed_.size() || pushed_[place].done) std::abort();  // it has ended before
  pushed_[place].done = true;
  const std::uint64_t before = acked_;
  while (!pushed_.empty() && pushed_.front().done) {
    acked_ = std::max(acked_, pushed_.front().last_line);
    pushed_.pop_front();
    ++first_ticket_;
  }
  if (pushed_.empty()) acked_ = std::max(acked_, handled_line_);
  return acked_ > before;
}

void AckLedger::tell() {
  if (!told_.exchange(true)) on_progress_();
}

}  // namespace sluice::ingest
