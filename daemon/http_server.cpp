// HTTP by Boost.Beast, one coroutine for each connection.
#include "daemon/http_server.hpp"

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <charconv>
#include <set>
#include <stdexcept>
#include <string_view>
#include <utility>

namespace sluice::daemon {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;

using Request = http::request<http::empty_body>;
using Response = http::response<http::string_body>;

constexpr std::string_view kPlain = "text/plain; charset=utf-8";
constexpr std::string_view kPrometheus = "text/plain; version=0.0.4; charset=utf-8";
constexpr std::string_view kHtml = "text/html; charset=utf-8";

constexpr std::chrono::seconds kLingerTime{1};
constexpr int kLingerReadsMax = 16;

struct Page {
  http::status status = http::status::ok;
  std::string_view content_type = kPlain;
  std::string body;
};

std::string escape_html(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::string home_page(const std::string& status) {
  return "<!doctype html><meta charset=utf-8><title>sluice</title>\n<h1>sluice</h1>\n<pre>" +
         escape_html(status) +
         "</pre>\n<ul><li><a href=\"/metrics\">/metrics</a><li><a href=\"/healthz\">/healthz</a>"
         "<li><a href=\"/readyz\">/readyz</a></ul>\n";
}

// 200 "ok", or 503 with a line for each reason.
Page probe_page(const std::vector<std::string>& reasons) {
  if (reasons.empty()) return {.body = "ok\n"};
  Page page{.status = http::status::service_unavailable, .body = ""};
  for (const std::string& reason : reasons) page.body += reason + "\n";
  return page;
}

std::string_view view(beast::string_view text) {
  return {text.data(), text.size()};
}

Page find_page(const HttpPages& pages, std::string_view target) {
  const std::string_view path = target.substr(0, target.find('?'));
  if (path == "/metrics") return {.content_type = kPrometheus, .body = pages.metrics()};
  if (path == "/healthz") return probe_page(pages.unhealthy());
  if (path == "/readyz") return probe_page(pages.unready());
  if (path == "/") return {.content_type = kHtml, .body = home_page(pages.status())};
  return {.status = http::status::not_found, .body = "there is no such page\n"};
}

Response answer(const HttpPages& pages, const Request& request) {
  const bool head = request.method() == http::verb::head;
  const bool known_method = head || request.method() == http::verb::get;
  Page page = known_method ? find_page(pages, view(request.target()))
                           : Page{.status = http::status::method_not_allowed,
                                  .body = "only GET and HEAD are allowed\n"};
  Response response(page.status, request.version());
  response.set(http::field::content_type,
               beast::string_view(page.content_type.data(), page.content_type.size()));
  response.set(http::field::cache_control, "no-store");
  if (!known_method) response.set(http::field::allow, "GET, HEAD");
  response.content_length(page.body.size());
  // What follows the header of a request with a body would be taken for the next request.
  const bool has_body = request.has_content_length() || request.chunked();
  response.keep_alive(request.keep_alive() && !has_body);
  if (!head) response.body() = std::move(page.body);
  return response;
}

Response refusal(http::status status, std::string_view reason) {
  Response response(status, 11);
  response.set(http::field::content_type, beast::string_view(kPlain.data(), kPlain.size()));
  response.keep_alive(false);
  response.body() = reason;
  response.prepare_payload();
  return response;
}

bool is_port(std::string_view text) {
  std::uint16_t port = 0;
  const char* const text_end = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), text_end, port);
  return error == std::errc() && end == text_end;
}

// "host:port" or "[host]:port".
std::pair<std::string, std::string> split_address(const std::string& listen) {
  const std::size_t colon = listen.rfind(':');
  if (colon == std::string::npos || colon == 0 ||
      !is_port(std::string_view(listen).substr(colon + 1))) {
    throw HttpAddressError("metrics.listen \"" + listen +
                           "\" is not host:port; write an address such as 127.0.0.1:9464");
  }
  std::string host = listen.substr(0, colon);
  if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  return {host, listen.substr(colon + 1)};
}

tcp::acceptor open_acceptor(asio::io_context& io, const std::string& listen) {
  const auto [host, port] = split_address(listen);
  try {
    const auto found = tcp::resolver(io).resolve(
        host, port, tcp::resolver::passive | tcp::resolver::numeric_service);
    return tcp::acceptor(io, found.begin()->endpoint(), true);  // true: SO_REUSEADDR
  } catch (const boost::system::system_error& error) {
    throw std::runtime_error("cannot listen for HTTP on metrics.listen \"" + listen +
                             "\": " + error.code().message());
  }
}

std::string to_string(const tcp::endpoint& endpoint) {
  const std::string host = endpoint.address().to_string();
  return (endpoint.address().is_v6() ? "[" + host + "]" : host) + ":" +
         std::to_string(endpoint.port());
}

}  // namespace

// Shared with the coroutines, which end some time after stop().
class HttpServer::Listener final : public std::enable_shared_from_this<Listener> {
 public:
  Listener(asio::io_context& io, const std::string& listen, HttpPages pages, HttpLimits limits)
      : acceptor_(open_acceptor(io, listen)),
        place_freed_(io, asio::steady_timer::time_point::max()),
        pages_(std::move(pages)),
        limits_(limits) {}

  [[nodiscard]] std::string address() const { return to_string(acceptor_.local_endpoint()); }

  void start() {
    asio::co_spawn(acceptor_.get_executor(), accept_all(shared_from_this()), asio::detached);
  }

  void stop() {
    stopped_ = true;
    error_code ignored;
    acceptor_.close(ignored);
    place_freed_.cancel();
    for (beast::tcp_stream* stream : streams_) stream->close();
  }

 private:
  static asio::awaitable<void> accept_all(std::shared_ptr<Listener> self) {
    while (!self->stopped_) {
      if (self->connections_ >= self->limits_.connections_max) {
        co_await self->sleep_until(asio::steady_timer::time_point::max());
        continue;
      }
      error_code error;
      tcp::socket socket =
          co_await self->acceptor_.async_accept(asio::redirect_error(asio::use_awaitable, error));
      if (self->stopped_) co_return;
      if (!error) {
        ++self->connections_;
        asio::co_spawn(self->acceptor_.get_executor(), serve(self, std::move(socket)),
                       asio::detached);
      } else if (error != asio::error::connection_aborted) {
        // No descriptor or no memory left: at once it would fail again.
        co_await self->sleep_until(asio::steady_timer::clock_type::now() + std::chrono::seconds(1));
      }
    }
  }

  // Ends early when a connection closes, or at stop().
  asio::awaitable<void> sleep_until(asio::steady_timer::time_point when) {
    place_freed_.expires_at(when);
    error_code ignored;
    co_await place_freed_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
  }

  static asio::awaitable<void> serve(std::shared_ptr<Listener> self, tcp::socket socket) {
    beast::tcp_stream stream(std::move(socket));
    self->streams_.insert(&stream);
    try {
      beast::flat_buffer buffer(self->limits_.header_bytes_max);
      bool stays_open = true;
      while (stays_open) stays_open = co_await serve_request(*self, stream, buffer);
      co_await close_gently(stream, buffer);
    } catch (const std::exception&) {
      // A page that cannot be made, or a client that went away: the connection is closed, no more.
    }
    self->streams_.erase(&stream);
    --self->connections_;
    self->place_freed_.cancel();
  }

  // Returns whether the connection stays open.
  static asio::awaitable<bool> serve_request(Listener& self, beast::tcp_stream& stream,
                                             beast::flat_buffer& buffer) {
    http::request_parser<http::empty_body> parser;
    parser.header_limit(static_cast<std::uint32_t>(self.limits_.header_bytes_max));
    error_code error;
    stream.expires_after(self.limits_.request_timeout);
    co_await http::async_read_header(stream, buffer, parser,
                                     asio::redirect_error(asio::use_awaitable, error));
    if (self.stopped_ || error == http::error::end_of_stream) co_return false;
    Response response;
    if (error == http::error::header_limit || error == http::error::buffer_overflow) {
      response = refusal(http::status::request_header_fields_too_large, "the header is too long\n");
    } else if (error.category() == make_error_code(http::error::bad_method).category()) {
      response = refusal(http::status::bad_request, "this is not HTTP\n");
    } else if (error) {
      co_return false;
    } else {
      response = answer(self.pages_, parser.get());
    }
    stream.expires_after(self.limits_.request_timeout);
    co_await send(stream, response, parser.get().method() == http::verb::head);
    co_return response.keep_alive();
  }

  // Bytes that nobody read would make the kernel reset the connection, and the client might never
  // see the answer: takes some until the client closes.
  static asio::awaitable<void> close_gently(beast::tcp_stream& stream, beast::flat_buffer& buffer) {
    error_code error;
    stream.socket().shutdown(tcp::socket::shutdown_send, error);
    stream.expires_after(kLingerTime);
    for (int reads = 0; !error && reads < kLingerReadsMax; ++reads) {
      buffer.clear();
      co_await stream.async_read_some(buffer.prepare(buffer.max_size()),
                                      asio::redirect_error(asio::use_awaitable, error));
    }
  }

  static asio::awaitable<void> send(beast::tcp_stream& stream, const Response& response,
                                    bool header_only) {
    http::response_serializer<http::string_body> serializer(response);
    if (header_only) {
      co_await http::async_write_header(stream, serializer, asio::use_awaitable);
    } else {
      co_await http::async_write(stream, serializer, asio::use_awaitable);
    }
  }

  tcp::acceptor acceptor_;
  asio::steady_timer place_freed_;
  const HttpPages pages_;
  const HttpLimits limits_;
  std::size_t connections_ = 0;
  std::set<beast::tcp_stream*> streams_;  // of the connections
  bool stopped_ = false;
};

HttpServer::HttpServer(asio::io_context& io, const std::string& listen, HttpPages pages,
                       HttpLimits limits)
    : listener_(std::make_shared<Listener>(io, listen, std::move(pages), limits)),
      address_(listener_->address()) {
  listener_->start();
}

HttpServer::~HttpServer() {
  stop();
}

void HttpServer::stop() {
  listener_->stop();
}

}  // namespace sluice::daemon
