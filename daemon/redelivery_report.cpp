#include "daemon/redelivery_report.hpp"

#include "daemon/remedy.hpp"

namespace sluice::daemon {
namespace {

std::string_view sqlstate_of(const sink::Failure& failure) {
  return failure.sqlstate.empty() ? std::string_view("none") : failure.sqlstate;
}

}  // namespace

void RedeliveryReport::delivered(const spool::Position&, bool) {
  delivered_.fetch_add(1, std::memory_order_relaxed);
  closed_.clear();
  log_.repeated("redelivery.delivered", LogLevel::info,
                "events that were set aside are delivered now", {{"so_far", events_delivered()}});
}

void RedeliveryReport::refused(const spool::Position& event, spool::AsideState state,
                               const sink::Failure& failure) {
  if (state != spool::AsideState::dead) return;
  died_.fetch_add(1, std::memory_order_relaxed);
  log_.repeated("redelivery.refused", LogLevel::warning,
                "an event that was set aside was refused again and is dead; `sluice dead` shows it",
                {{"segment", event.segment.text()},
                 {"index", event.index},
                 {"sqlstate", sqlstate_of(failure)},
                 {"error", failure.message},
                 {"column", failure.column}});
}

void RedeliveryReport::unreadable(const spool::Position& event) {
  died_.fetch_add(1, std::memory_order_relaxed);
  log_.repeated("redelivery.unreadable", LogLevel::warning,
                "the line of an event that was set aside makes no event any more",
                {{"segment", event.segment.text()}, {"index", event.index}});
}

void RedeliveryReport::lost(const spool::Uuid& segment, std::uint64_t events) {
  lost_.fetch_add(events, std::memory_order_relaxed);
  log_.error(
      "the database forgot set-aside events that were delivered, as after a failover: they "
      "go again",
      {{"segment", segment.text()}, {"events", events}});
}

// Told when it is news, not in each round.
void RedeliveryReport::closed(std::string_view table, const sink::Failure& failure) {
  std::string& told = closed_[std::string(table)];
  if (told == failure.sqlstate + failure.column) return;
  told = failure.sqlstate + failure.column;
  log_.error(
      "events of a route are held until somebody mends its table; they go on by themselves "
      "then",
      {{"table", table},
       {"mend", failure.sqlstate.empty() ? "what the error names" : remedy_for(failure)},
       {"error", failure.message},
       {"sqlstate", sqlstate_of(failure)},
       {"column", failure.column}});
}

void RedeliveryReport::failed(std::string_view step, const sink::Failure& failure,
                              std::chrono::milliseconds retry_in) {
  log_.repeated("redelivery.failed", LogLevel::warning,
                "the delivery of set-aside events is interrupted and tried again",
                {{"step", step},
                 {"sqlstate", sqlstate_of(failure)},
                 {"error", failure.message},
                 {"hint", remedy_for(failure)},
                 {"retry_in_ms", retry_in.count()}});
}

}  // namespace sluice::daemon
