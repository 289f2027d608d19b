#include "daemon/event_sockets.hpp"

#include <algorithm>
#include <string>
#include <utility>

namespace sluice::daemon {
namespace {

using config::Settings;

Settings::Listener as_ingest_says(const Settings& settings) {
  const auto& ingest = settings.ingest;
  return {.socket = "",
          .tcp = "",
          .socket_mode = ingest.socket_mode,
          .socket_group = ingest.socket_group,
          .on_full = ingest.on_full,
          .default_type = ingest.default_type,
          .allow_uids = ingest.allow_uids};
}

ingest::ListeningSocket open_socket(const Settings::Listener& listener) {
  if (!listener.tcp.empty()) return ingest::listen_tcp(listener.tcp);
  return ingest::listen_unix({listener.socket, listener.socket_mode, listener.socket_group});
}

}  // namespace

std::vector<Settings::Listener> listeners_of(const Settings& settings) {
  std::vector<Settings::Listener> listeners;
  if (!settings.ingest.socket.empty()) {
    listeners.push_back(as_ingest_says(settings));
    listeners.back().socket = settings.ingest.socket;
  }
  if (!settings.ingest.tcp.empty()) {
    listeners.push_back(as_ingest_says(settings));
    listeners.back().tcp = settings.ingest.tcp;
  }
  listeners.insert(listeners.end(), settings.listeners.begin(), settings.listeners.end());
  return listeners;
}

std::vector<std::unique_ptr<FileLock>> lock_event_sockets(
    const Settings& settings, const std::vector<InheritedSocket>& inherited) {
  std::vector<std::unique_ptr<FileLock>> locks;
  if (!inherited.empty()) return locks;
  for (const Settings::Listener& listener : listeners_of(settings)) {
    if (listener.socket.empty()) continue;
    locks.push_back(std::make_unique<FileLock>(listener.socket + ".lock", listener.socket));
  }
  return locks;
}

std::vector<EventSocket> open_event_sockets(const Settings& settings,
                                            const std::vector<InheritedSocket>& inherited) {
  std::vector<Settings::Listener> asked = listeners_of(settings);
  std::vector<EventSocket> sockets;
  bool replaces_ingest_socket = false;
  for (const InheritedSocket& each : inherited) {
    ingest::ListeningSocket socket = ingest::adopt_socket(each.fd);
    const auto same = std::find_if(asked.begin(), asked.end(), [&](const auto& listener) {
      return listener.socket == socket.name() || listener.tcp == socket.name();
    });
    if (same == asked.end()) {
      replaces_ingest_socket = true;
      sockets.push_back({std::move(socket), as_ingest_says(settings)});
    } else {
      sockets.push_back({std::move(socket), *same});
      asked.erase(same);
    }
  }
  for (const Settings::Listener& listener : asked) {
    if (replaces_ingest_socket && listener.socket == settings.ingest.socket &&
        !listener.socket.empty())
      continue;
    sockets.push_back({open_socket(listener), listener});
  }
  if (sockets.empty()) {
    throw ingest::SocketError(ingest::SocketError::Kind::configuration,
                              "nothing to listen on: set ingest.socket or ingest.tcp");
  }
  return sockets;
}

}  // namespace sluice::daemon
