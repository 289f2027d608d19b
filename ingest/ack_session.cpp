#include "ingest/ack_session.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <string>
#include <utility>

namespace sluice::ingest {

AckSession::AckSession(AckStage stage, std::function<void()> on_progress, IngestCounters& counters)
    : ledger_(std::make_shared<AckLedger>(stage, std::move(on_progress))), answers_(counters) {}

void AckSession::name_producer(const spool::ProducerKey& key, std::uint64_t first) {
  producer_ = key;
  line_offset_ = first - 1;
}

void AckSession::enter_chunk(Origin& origin, std::uint64_t last_line) {
  origin.ledger = ledger_;
  origin.ticket = ledger_->push(last_line);
  origin.producer = producer_;
  origin.line_offset = line_offset_;
}

void AckSession::refused(std::uint64_t line, Refusal code, std::string_view field) {
  ++refused_;
  // The first of them tells a named producer to connect again: it must not be among those that are
  // only counted.
  const bool connects_again =
      code == Refusal::full && producer_ && !std::exchange(had_no_room_, true);
  answers_.nack(line, refusal_code(code), may_pass_later(code),
                connects_again ? Answers::Nack::always : Answers::Nack::if_it_fits, field);
}

void AckSession::handled(std::uint64_t line) {
  handled_ = line;
  ledger_->handled(line);
}

void AckSession::timed_out(std::uint64_t line) {
  answers_.nack(line, "timeout", true);
}

void AckSession::follow() {
  const AckLedger::Progress progress = ledger_->take_progress();
  for (const AckLedger::Nack& nack : progress.nacks) {
    for (std::uint64_t line = nack.first_line; line <= nack.last_line; ++line) {
      refused(line, nack.code);
    }
  }
  for (const AckLedger::RefusedRow& row : progress.refused_rows) {
    ++refused_;
    answers_.nack(row.line, row.sqlstate, false);
  }
  acked_ = progress.acked;
  stored_ = progress.stored;
  duplicates_ = progress.duplicates;
  answers_.ack(acked_);
}

void AckSession::summarise() {
  answers_.say("{\"done\":" + std::to_string(acked_) + ",\"stored\":" + std::to_string(stored_) +
               ",\"duplicate\":" + std::to_string(duplicates_) +
               ",\"rejected\":" + std::to_string(refused_) + "}\n");
}

bool AckSession::is_crowded() const {
  return ledger_->stage() == AckStage::committed && ledger_->outstanding() > kChunksWaitingMax;
}

AckSession::Sent AckSession::send_to(int socket) {
  for (;;) {
    const std::string_view bytes = answers_.next();
    if (bytes.empty()) return Sent::everything;
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
      answers_.sent(static_cast<std::size_t>(sent));
    } else if (errno != EINTR) {
      return errno == EAGAIN ? Sent::some : Sent::gone;
    }
  }
}

}  // namespace sluice::ingest
