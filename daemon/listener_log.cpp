#include "daemon/listener_log.hpp"

#include <string>
#include <system_error>

#include "spool/event_record.hpp"

namespace sluice::daemon {
namespace {

std::string uid_text(std::uint32_t uid) {
  return uid == spool::kNoUid ? "none" : std::to_string(uid);
}

}  // namespace

void ListenerLog::line_refused(const ingest::RefusedLine& refused) {
  const std::string_view code = ingest::refusal_code(refused.reason);
  log_.repeated("refused " + std::string(code), LogLevel::warning, "refused a line",
                {{"code", code},
                 {"uid", uid_text(refused.uid)},
                 {"connection", refused.connection},
                 {"line", refused.line}});
}

void ListenerLog::hello_refused(std::uint32_t uid, std::string_view reason) {
  log_.repeated("hello refused", LogLevel::warning,
                "closed a connection: its first line asks for acks in a wrong way",
                {{"uid", uid_text(uid)}, {"reason", reason}});
}

void ListenerLog::uid_refused(std::uint32_t uid) {
  log_.repeated("uid refused", LogLevel::warning,
                "closed a connection: its user is not in ingest.allow_uids",
                {{"uid", uid_text(uid)}});
}

void ListenerLog::uid_has_too_many(std::uint32_t uid, std::size_t connections) {
  log_.repeated("uid has too many", LogLevel::warning,
                "closed a connection: its user has ingest.connections_per_uid_max of them",
                {{"uid", uid_text(uid)}, {"connections", connections}});
}

void ListenerLog::connections_full(std::size_t connections, bool out_of_descriptors) {
  log_.repeated("connections full", LogLevel::warning,
                out_of_descriptors
                    ? "no descriptors for more connections (ulimit -n, LimitNOFILE=): others wait "
                      "until a connection closes"
                    : "ingest.connections_max is reached: others wait until a connection closes",
                {{"connections", connections}});
}

void ListenerLog::accept_failed(std::string_view socket_name, int error) {
  log_.repeated("accept failed", LogLevel::error, "cannot accept a connection; trying again",
                {{"socket", socket_name}, {"error", std::generic_category().message(error)}});
}

}  // namespace sluice::daemon
