// The HTTP pages over loopback: a client's thread asks, the test's thread runs the server.
#include "daemon/http_server.hpp"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <catch2/catch.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace sluice::daemon {
namespace {

using namespace std::chrono_literals;

// A blocking client. Sockets come from the system, so that the server is not tested by its own
// library.
class Client final {
 public:
  explicit Client(const std::string& address) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port =
        htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const timeval patience{.tv_sec = 20, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    connected_ = ::connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0;
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client() { ::close(fd_); }

  [[nodiscard]] bool connected() const { return connected_; }
  void send(std::string_view bytes) const { ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }

  // Until the server closes, or until what came ends with `last`.
  [[nodiscard]] std::string read_until(std::string_view last = "") const {
    std::string all;
    char buffer[4096];
    while (last.empty() || !all.ends_with(last)) {
      const ssize_t got = ::recv(fd_, buffer, sizeof buffer, 0);
      if (got <= 0) return got == 0 ? all : all + "(error)";
      all.append(buffer, static_cast<std::size_t>(got));
    }
    return all;
  }

 private:
  const int fd_;
  bool connected_ = false;
};

struct Fixture {
  std::vector<std::string> unhealthy;
  std::vector<std::string> unready;
  HttpLimits limits;

  // Serves until `talk`, run on a thread of its own, is done.
  void serve(const std::function<void(const std::string& address)>& talk) {
    boost::asio::io_context io;
    HttpServer server(io, "127.0.0.1:0",
                      {.metrics = [] { return std::string("sluice_up 1\n"); },
                       .unhealthy = [this] { return unhealthy; },
                       .unready = [this] { return unready; },
                       .status = [] { return std::string("lanes <2>\n"); }},
                      limits);
    std::atomic<bool> done{false};
    std::thread client([&] {
      talk(server.address());
      done = true;
    });
    while (!done) io.run_for(5ms);
    client.join();
    server.stop();
    io.restart();
    io.poll();
  }

  // The whole answer to one request.
  std::string ask(const std::string& request) {
    std::string answer;
    serve([&](const std::string& address) {
      const Client client(address);
      client.send(request);
      answer = client.read_until();
    });
    return answer;
  }

  std::string get(const std::string& path) {
    return ask("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  }
};

TEST_CASE("http server: /metrics is Prometheus' text format") {
  const std::string answer = Fixture().get("/metrics");
  CHECK(answer.starts_with("HTTP/1.1 200 OK\r\n"));
  CHECK(answer.find("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n") !=
        std::string::npos);
  CHECK(answer.ends_with("\r\n\r\nsluice_up 1\n"));
}

TEST_CASE("http server: HEAD gives the length of a page and not the page") {
  const std::string answer =
      Fixture().ask("HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  CHECK(answer.starts_with("HTTP/1.1 200 OK\r\n"));
  CHECK(answer.find("Content-Length: 12\r\n") != std::string::npos);
  CHECK(answer.ends_with("\r\n\r\n"));
}

TEST_CASE("http server: the probes say ok, or 503 with each reason on a line") {
  Fixture fixture;
  CHECK(fixture.get("/healthz").ends_with("\r\n\r\nok\n"));
  CHECK(fixture.get("/readyz?verbose").ends_with("\r\n\r\nok\n"));

  fixture.unhealthy = {"the journal is stuck"};
  fixture.unready = {"draining", "no socket"};
  const std::string health = fixture.get("/healthz");
  CHECK(health.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
  CHECK(health.ends_with("\r\n\r\nthe journal is stuck\n"));
  const std::string ready = fixture.get("/readyz");
  CHECK(ready.starts_with("HTTP/1.1 503 "));
  CHECK(ready.ends_with("\r\n\r\ndraining\nno socket\n"));
}

TEST_CASE("http server: the home page shows the status as text and links the others") {
  const std::string answer = Fixture().get("/");
  CHECK(answer.find("Content-Type: text/html; charset=utf-8\r\n") != std::string::npos);
  CHECK(answer.find("lanes &lt;2&gt;") != std::string::npos);
  CHECK(answer.find("href=\"/metrics\"") != std::string::npos);
}

TEST_CASE("http server: another page is 404, another method 405, another protocol 400") {
  Fixture fixture;
  CHECK(fixture.get("/metrics/x").starts_with("HTTP/1.1 404 "));
  const std::string post =
      fixture.ask("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
  CHECK(post.starts_with("HTTP/1.1 405 "));
  CHECK(post.find("Allow: GET, HEAD\r\n") != std::string::npos);
  CHECK(fixture.ask("{\"type\":\"tool.call\"}\r\n\r\n").starts_with("HTTP/1.1 400 "));
}

TEST_CASE("http server: a header beyond its bound is refused") {
  Fixture fixture;
  fixture.limits.header_bytes_max = 512;
  const std::string answer =
      fixture.ask("GET / HTTP/1.1\r\nX: " + std::string(2000, 'a') + "\r\n\r\n");
  CHECK(answer.starts_with("HTTP/1.1 431 "));
}

TEST_CASE("http server: a connection is kept for the next request, sent at once or later") {
  Fixture fixture;
  std::string first;
  std::string rest;
  fixture.serve([&](const std::string& address) {
    const Client client(address);
    client.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    first = client.read_until("ok\n");
    client.send(
        "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"
        "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    rest = client.read_until();
  });
  CHECK(first.starts_with("HTTP/1.1 200 "));
  CHECK(rest.starts_with("HTTP/1.1 404 "));
  CHECK(rest.ends_with("\r\n\r\nok\n"));
}

TEST_CASE("http server: half a request is cut off when its time is up") {
  Fixture fixture;
  fixture.limits.request_timeout = 20ms;
  CHECK(fixture.ask("GET /metrics HTTP/1.1\r\nHost:").empty());
}

TEST_CASE("http server: clients beyond the bound wait for a place and are served then") {
  Fixture fixture;
  fixture.limits.connections_max = 2;
  fixture.limits.request_timeout = 50ms;
  std::string answer;
  fixture.serve([&](const std::string& address) {
    const Client idle(address);
    const Client slow(address);
    const Client third(address);
    slow.send("GET");
    third.send("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    answer = third.read_until();
  });
  CHECK(answer.ends_with("\r\n\r\nok\n"));
}

TEST_CASE("http server: stop closes the listening socket and open connections") {
  boost::asio::io_context io;
  const auto nothing = [] { return std::string(); };
  const auto well = [] { return std::vector<std::string>(); };
  HttpServer server(io, "127.0.0.1:0",
                    {.metrics = nothing, .unhealthy = well, .unready = well, .status = nothing});
  const Client client(server.address());
  REQUIRE(client.connected());
  io.poll();
  server.stop();
  io.restart();
  io.run();
  CHECK(client.read_until().empty());
  CHECK_FALSE(Client(server.address()).connected());
}

TEST_CASE("http server: an address that cannot be listened on is named in the error") {
  boost::asio::io_context io;
  const auto start = [&](const std::string& listen) { HttpServer(io, listen, {}); };
  CHECK_THROWS_WITH(start("127.0.0.1"), Catch::Contains("metrics.listen \"127.0.0.1\""));
  CHECK_THROWS_WITH(start("127.0.0.1:metrics"), Catch::Contains("127.0.0.1:metrics"));
  for (const char* listen : {"9464", ":9464", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:+1"}) {
    INFO(listen);
    CHECK_THROWS_AS(start(listen), HttpAddressError);
  }
  CHECK_THROWS_WITH(start("192.0.2.1:0"), Catch::Contains("192.0.2.1:0"));
  HttpServer taken(io, "127.0.0.1:0", {});
  CHECK_THROWS_WITH(start(taken.address()), Catch::Contains("in use"));
}

}  // namespace
}  // namespace sluice::daemon
