// The log lines about producers: as many as help a person, however many lines are refused.
#pragma once

#include "daemon/log.hpp"
#include "ingest/listener_reporter.hpp"

namespace sluice::daemon {

// Thread: the ingest thread's. REQUIRES: the log outlives it.
class ListenerLog final : public ingest::ListenerReporter {
 public:
  explicit ListenerLog(Log& log) : log_(log) {}

  void line_refused(const ingest::RefusedLine& refused) override;
  void hello_refused(std::uint32_t uid, std::string_view reason) override;
  void uid_refused(std::uint32_t uid) override;
  void uid_has_too_many(std::uint32_t uid, std::size_t connections) override;
  void connections_full(std::size_t connections, bool out_of_descriptors) override;
  void accept_failed(std::string_view socket_name, int error) override;

 private:
  Log& log_;
};

}  // namespace sluice::daemon
