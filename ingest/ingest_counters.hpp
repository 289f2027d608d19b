// What ingest has counted since the process started. Written by the ingest and the journal thread,
// read by the metrics' thread; relaxed, each number for itself.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "ingest/refusal.hpp"
#include "spool/event_record.hpp"

namespace sluice::ingest {

using Count = std::atomic<std::uint64_t>;

inline void add(Count& count, std::uint64_t n) {
  count.fetch_add(n, std::memory_order_relaxed);
}

// Known fields that can be misfits, in the order of `misfits`.
enum class KnownField { type, id, source, session_id, parent_id, time };
inline constexpr std::size_t kKnownFieldCount = 6;

// Whose connection it is, as far as a metric may tell: the numbers are Debian's (login.defs,
// UID_MIN).
enum class UidClass { root, system, user, tcp };
inline constexpr std::size_t kUidClassCount = 4;
[[nodiscard]] constexpr UidClass uid_class(std::uint32_t uid) {
  if (uid == spool::kNoUid) return UidClass::tcp;
  if (uid == 0) return UidClass::root;
  return uid < 1000 ? UidClass::system : UidClass::user;
}
using CountOfUids = std::array<Count, kUidClassCount>;

struct IngestCounters {
  // By the ingest thread.
  Count connections_opened;
  Count connections_closed;
  CountOfUids connections_refused_uid{};  // not in allow_uids: closed at accept
  CountOfUids connections_refused_cap{};  // more than connections_per_uid_max: closed at accept
  Count bytes_received;
  Count lines_received;  // non-empty lines, whole: each is then accepted or refused
  Count lines_empty;
  Count lines_partial;    // cut off at the end of a connection: no event
  Count lines_timed_out;  // partial, and nothing came for partial_line_timeout
  std::array<Count, kRefusalCount> refused{};
  Count events_accepted;  // handed to the queue
  std::array<Count, kKnownFieldCount> misfits{};
  Count nul_mended;
  Count text_mended;
  Count duplicate_keys;  // accepted events with a top-level key more than once
  Count time_skew;       // event times more than a day from the time of receipt
  Count budget_waits;    // times a connection was not read because the queue was full
  // Received, and there was no room for them: forgotten, as their listener has on_full = "drop".
  Count lines_dropped;
  Count hellos;          // connections that asked for acks
  Count hellos_refused;  // in a way that is not understood
  Count acks_sent;       // lines that say so; each may stand for many lines
  Count nacks_sent;
  Count nacks_unsent;  // told as a number only, as the producer did not read
  // By the journal's thread.
  Count duplicates;
  Count id_conflicts;
  Count events_journaled;  // appended to the spool
  // Accepted, and then there was no room for them: those of listeners with on_full = "reject",
  // which are in refused[full] as well, and those of listeners with on_full = "drop".
  Count events_turned_away;
  Count events_dropped;
  // By the journal's thread too, as they are now.
  Count dedupe_keys;
  Count dedupe_window_ms;  // how far back keys are remembered
};

}  // namespace sluice::ingest
