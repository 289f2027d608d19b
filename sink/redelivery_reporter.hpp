// What a redelivery tells about its work. The daemon makes logs and metrics of it, the command its
// output.
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "sink/database.hpp"
#include "spool/aside.hpp"

namespace sluice::sink {

// Thread: the sink's.
class RedeliveryReporter {
 public:
  virtual ~RedeliveryReporter() = default;

  // The row is in its table now, or was found to be: an earlier try had delivered it.
  virtual void delivered(const spool::Position& event, bool by_an_earlier_try) = 0;
  // The row was refused. `state`: what the record is from now on.
  virtual void refused(const spool::Position& event, spool::AsideState state,
                       const Failure& failure) = 0;
  // The record does not count, or not yet: its segment is to deliver the event.
  virtual void left_to_segment(const spool::Position& event) = 0;
  // The line makes no event with the settings of today.
  virtual void unreadable(const spool::Position& event) = 0;
  // The database forgot rows that were delivered, as after a failover: they are tried again.
  virtual void lost(const spool::Uuid& segment, std::uint64_t events) = 0;
  // The table of a route cannot be used: its records stay as they are.
  virtual void closed(std::string_view table, const Failure& failure) = 0;
  // The round came to an end before its time. `step` is a word for people.
  virtual void failed(std::string_view step, const Failure& failure,
                      std::chrono::milliseconds retry_in) = 0;
};

}  // namespace sluice::sink
