// Delivers chosen set-aside records, beside a running daemon or without one.
#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "config/settings.hpp"
#include "daemon/dead_records.hpp"
#include "spool/disk.hpp"

namespace sluice::daemon {

struct RetryTold {
  // What became of one of them, in a word of the list below, and why.
  //
  //   delivered        its row is in its table
  //   found            an earlier try had delivered it
  //   refused          Postgres refused its row again
  //   held             its route's table cannot be used
  //   void             its segment delivers it, or has yet to
  //   unreadable       its line cannot be read, or makes no event
  std::function<void(const DeadRecord&, std::string_view what, const std::string& why)> record;
  // The connection failed, and it is tried again.
  std::function<void(const std::string& why)> trouble;
};

struct RetryResult {
  std::size_t delivered = 0;  // found ones too
  std::size_t left = 0;
  bool reached_postgres = true;  // otherwise it was given up
};

// By the routes and the tables as they are now. Each record is delivered once, whoever else tries
// it at the same time: sink/redelivery.hpp.
[[nodiscard]] RetryResult retry_records(const config::Settings& settings, spool::Disk& disk,
                                        const std::vector<DeadRecord>& records,
                                        const RetryTold& told);

}  // namespace sluice::daemon
