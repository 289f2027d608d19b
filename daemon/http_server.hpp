// The few HTTP pages for Prometheus, probes and people: /metrics, /healthz, /readyz and /.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace boost::asio {
class io_context;
}

namespace sluice::daemon {

// What the pages say. Each is called for each request, on the thread that runs the io_context.
struct HttpPages {
  std::function<std::string()> metrics;  // Prometheus' text format
  // Why the daemon is stuck, or does not take events: empty while all is well.
  std::function<std::vector<std::string>()> unhealthy;
  std::function<std::vector<std::string>()> unready;
  std::function<std::string()> status;  // plain text for people, several lines
};

struct HttpLimits {
  std::size_t connections_max = 64;  // more wait to be accepted
  std::size_t header_bytes_max = 8 * 1024;
  // For a request to come, from the last answer on, and again for its answer to be taken.
  std::chrono::milliseconds request_timeout{10'000};
};

// What was to be listened on is no address: a person must change it.
class HttpAddressError final : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// HTTP/1.1 with keep-alive; GET and HEAD only, a body is never read. One slow client costs others
// nothing but its place among connections_max, and that not for long.
//
// Thread: the io_context's, which must be one. The destructor stops it: no page is asked
// afterwards.
class HttpServer final {
 public:
  // `listen`: "host:port" ("[::1]:9464" for IPv6), port 0 for one that the kernel picks.
  // The io_context outlives the server.
  // Throws HttpAddressError when `listen` is no address, std::runtime_error when it cannot listen
  // there, each with `listen` in its message.
  HttpServer(boost::asio::io_context& io, const std::string& listen, HttpPages pages,
             HttpLimits limits = {});
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  ~HttpServer();

  // Where it listens, with the port that was picked.
  [[nodiscard]] const std::string& address() const { return address_; }

  // Closes the listening socket and every connection.
  void stop();

 private:
  class Listener;

  const std::shared_ptr<Listener> listener_;
  const std::string address_;
};

}  // namespace sluice::daemon
