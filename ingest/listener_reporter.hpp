// What the listener tells about its work beside the counters. The daemon makes logs of it, as few
// as it likes; tests look at every call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "ingest/refusal.hpp"

namespace sluice::ingest {

// A line that became no event. Never holds the line itself.
struct RefusedLine {
  Refusal reason;
  std::uint32_t uid;         // of the producer; spool::kNoUid over TCP
  std::uint64_t connection;  // from 1, in the order of accepting
  std::uint64_t line;        // from 1, empty lines included, a hello not
};

// Thread: the ingest thread's.
class ListenerReporter {
 public:
  virtual ~ListenerReporter() = default;

  // With the code `full`: once for all lines that were read together.
  virtual void line_refused(const RefusedLine& refused) = 0;
  // A producer asked for acks in a way that is not understood, and was closed. The reason is
  // constant text.
  virtual void hello_refused(std::uint32_t uid, std::string_view reason) = 0;
  // A producer that is not in allow_uids was closed at accept.
  virtual void uid_refused(std::uint32_t uid) = 0;
  // One of a uid that has connections_per_uid_max of them was closed at accept.
  virtual void uid_has_too_many(std::uint32_t uid, std::size_t connections) = 0;
  // connections_max is reached, or there are no descriptors for more: the next wait in the backlog
  // until one closes. Once each time that this comes about anew.
  virtual void connections_full(std::size_t connections, bool out_of_descriptors) = 0;
  // accept() failed with this errno on this socket and is tried again.
  virtual void accept_failed(std::string_view socket_name, int error) = 0;
};

}  // namespace sluice::ingest
