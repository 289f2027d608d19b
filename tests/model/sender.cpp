#include "tests/model/sender.hpp"

#include <algorithm>
#include <string>

#include "tests/unit/event_fixture.hpp"

namespace sluice::model {

using ingest::AckLedger;
using ingest::AckStage;
using ingest::OnFull;

namespace {

// Of a number, as good as random.
std::uint64_t mixed(std::uint64_t number) {
  return tests::SeededRandom(number).next();
}

OnFull on_full_of(SenderKind kind) {
  switch (kind) {
    case SenderKind::keyed_rejected:
      return OnFull::reject;
    case SenderKind::dropped:
      return OnFull::drop;
    case SenderKind::keyed:
    case SenderKind::keyed_committed:
    case SenderKind::named:
    case SenderKind::plain:
    case SenderKind::silent:
      return OnFull::wait;
  }
  return OnFull::wait;
}

}  // namespace

Sender::Sender(SenderKind kind, std::size_t index, EventBook& book, Tally& tally,
               tests::SeededRandom& random, IsStored is_stored)
    : kind_(kind),
      index_(index),
      name_{mixed(index), mixed(index + 1'000)},
      book_(book),
      tally_(tally),
      random_(random),
      is_stored_(std::move(is_stored)) {}

void Sender::connect(ingest::EventQueue& queue, spool::ByteBudget& budget,
                     const spool::ProducerTable& producers, bool is_in_doubt) {
  disconnect();
  queue_ = &queue;
  budget_ = &budget;
  connection_ = std::make_shared<Connection>();
  connection_->queue = queue.make_producer();
  if (kind_ != SenderKind::silent && kind_ != SenderKind::dropped) {
    const AckStage stage =
        kind_ == SenderKind::keyed_committed ? AckStage::committed : AckStage::durable;
    // A connection that is gone hears nothing.
    connection_->ledger =
        std::make_shared<AckLedger>(stage, [this, weak = std::weak_ptr<Connection>(connection_)] {
          if (const auto connection = weak.lock()) read_acks(*connection);
        });
  }
  if (kind_ == SenderKind::named) greet_by_name(producers, is_in_doubt);
}

void Sender::greet_by_name(const spool::ProducerTable& producers, bool is_in_doubt) {
  std::uint64_t have = producers.have(name_);
  if (have > history_.size()) throw Broken("a named producer has more lines than it ever sent");
  if (have > 0) tally_.add(Letter::have_told);
  for (std::uint64_t line = 0; line < have; ++line) promise(history_[line]);
  for (std::uint64_t line = have; line < history_.size() && !is_in_doubt; ++line) {
    const SentEvent& event = book_.at(history_[line]);
    if (event.promised && !event.may_be_lost) {
      throw Broken("`have` is below a line of a named producer that was acked");
    }
  }
  if (forgets_have_) have -= std::min<std::uint64_t>(have, random_.between(1, 5));
  forgets_have_ = false;
  next_line_ = have;
  connection_->line_offset = have;
}

void Sender::disconnect() {
  if (!connection_) return;
  if (has_keys()) {
    const Connection& connection = *connection_;
    for (std::uint64_t line = connection.acked_lines; line < connection.lines.size(); ++line) {
      if (!book_.at(connection.lines[line]).promised) again_.push_back(connection.lines[line]);
    }
  }
  connection_.reset();
}

bool Sender::can_send_duplicates() const {
  return !acked_.empty();
}

bool Sender::has_to_send_again() const {
  return !again_.empty() || (kind_ == SenderKind::named && next_line_ < history_.size());
}

bool Sender::is_answered() const {
  return !connection_ || !connection_->ledger ||
         connection_->acked_lines == connection_->lines.size();
}

std::vector<std::uint64_t> Sender::next_events() {
  std::vector<std::uint64_t> numbers;
  const std::uint64_t count = random_.between(1, 6);
  while (numbers.size() < count) {
    if (!again_.empty()) {
      numbers.push_back(again_.front());
      again_.pop_front();
    } else if (kind_ == SenderKind::named) {
      if (next_line_ == history_.size()) history_.push_back(book_.open(index_));
      numbers.push_back(history_[next_line_++]);
    } else {
      numbers.push_back(book_.open(index_));
    }
  }
  return numbers;
}

void Sender::send(std::int64_t now_us) {
  send_lines(next_events(), now_us);
}

void Sender::send_duplicates(std::int64_t now_us) {
  std::vector<std::uint64_t> numbers;
  for (std::uint64_t count = random_.between(1, 4); count > 0; --count) {
    numbers.push_back(acked_[random_.below(acked_.size())]);
  }
  send_lines(numbers, now_us);
}

void Sender::send_lines(const std::vector<std::uint64_t>& numbers, std::int64_t now_us) {
  Connection& connection = *connection_;
  spool::Chunk chunk(*budget_, 256);
  const std::uint64_t first_line = connection.lines.size() + 1;
  for (const std::uint64_t number : numbers) {
    const auto delta = static_cast<std::uint32_t>(connection.lines.size() + 1 - first_line);
    append_record(chunk, number, delta, now_us);
    connection.lines.push_back(number);
  }
  connection.refused.resize(connection.lines.size());
  ingest::Origin origin;
  origin.first_line = first_line;
  origin.on_full = on_full_of(kind_);
  if (connection.ledger) {
    origin.ledger = connection.ledger;
    origin.ticket = connection.ledger->push(connection.lines.size());
    connection.ledger->handled(connection.lines.size());
  }
  if (kind_ == SenderKind::named) {
    origin.producer = name_;
    origin.line_offset = connection.line_offset;
  }
  queue_->push(*connection.queue, std::move(chunk), std::move(origin));
}

void Sender::append_record(spool::Chunk& chunk, std::uint64_t number, std::uint32_t line_delta,
                           std::int64_t now_us) {
  spool::RecordHeader header{};
  header.uid = 1000;
  header.id = tests::numbered_id(number);
  header.flags = spool::kHasId;
  header.received_us = header.occurred_us = now_us;
  if (has_keys()) {
    header.flags |= spool::kHasDedupeKey;
    header.dedupe_hash[0] = mixed(number);
    header.dedupe_hash[1] = mixed(~number);
  }
  spool::set_line_delta(header, line_delta);
  std::string line = "{\"n\":" + std::to_string(number) + "}";
  if (number % 7 == 0) line.insert(1, std::string(number % 500, ' '));
  chunk.append(header, {}, line, {});
}

void Sender::read_acks(Connection& connection) {
  const AckLedger::Progress progress = connection.ledger->take_progress();
  for (const AckLedger::Nack& nack : progress.nacks) {
    for (std::uint64_t line = nack.first_line; line <= nack.last_line; ++line) {
      tally_.add(Letter::nack);
      connection.refused[line - 1] = true;
      if (!book_.at(connection.lines[line - 1]).promised) {
        again_.push_back(connection.lines[line - 1]);
      }
    }
  }
  if (progress.acked > connection.lines.size()) throw Broken("an ack for a line never sent");
  for (std::uint64_t line = connection.acked_lines; line < progress.acked; ++line) {
    if (!connection.refused[line]) promise(connection.lines[line]);
  }
  connection.acked_lines = progress.acked;
}

void Sender::promise(std::uint64_t number) {
  SentEvent& event = book_.at(number);
  if (kind_ == SenderKind::keyed_committed) {
    tally_.add(Letter::committed_ack);
    if (event.run == book_.run && !is_stored_(number))
      throw Broken("event " + std::to_string(number) + " was acked as committed and has no row");
  } else {
    tally_.add(Letter::durable_ack);
  }
  if (!event.promised && has_keys()) acked_.push_back(number);
  event.promised = true;
}

void Sender::start_over() {
  disconnect();
  again_.clear();
  acked_.clear();
  history_.clear();
  next_line_ = 0;
  name_ = {random_.next(), random_.next()};
}

}  // namespace sluice::model
