// The sockets that the settings ask for, each with how its producers are treated.
#pragma once

#include <memory>
#include <vector>

#include "config/settings.hpp"
#include "daemon/file_lock.hpp"
#include "daemon/sd_notify.hpp"
#include "ingest/socket_address.hpp"

namespace sluice::daemon {

// Those of [ingest] first, then the others; each has a socket or a TCP address.
[[nodiscard]] std::vector<config::Settings::Listener> listeners_of(
    const config::Settings& settings);

struct EventSocket {
  ingest::ListeningSocket socket;
  config::Settings::Listener listener;
};

// A lock beside each Unix socket that is to be made, so that a second daemon changes nothing. None
// where the service manager opened the sockets: it sees to it that there is one daemon. Throws
// LockedError, std::system_error.
[[nodiscard]] std::vector<std::unique_ptr<FileLock>> lock_event_sockets(
    const config::Settings& settings, const std::vector<InheritedSocket>& inherited);

// An inherited socket takes the place of the listener whose address it has; one of another address
// is as [ingest] says, and takes the place of ingest.socket. REQUIRES: the locks are held.
// Throws ingest::SocketError.
[[nodiscard]] std::vector<EventSocket> open_event_sockets(
    const config::Settings& settings, const std::vector<InheritedSocket>& inherited);

}  // namespace sluice::daemon
