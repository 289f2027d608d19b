#include "sink/postgres_session.hpp"

#include <libpq-fe.h>
#include <poll.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <new>
#include <string_view>
#include <utility>

#include "sink/sqlstate.hpp"

namespace sluice::sink {
namespace {

std::string_view field(const PGresult* result, int code) {
  const char* const text = PQresultErrorField(result, code);
  return text == nullptr ? std::string_view() : std::string_view(text);
}

// libpq's messages have several lines, and what a server says may hold anything.
std::string one_line(std::string_view text) {
  std::string line;
  for (const char c : text) {
    const bool is_control = static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
    if (!is_control) {
      line += c;
    } else if (!line.empty() && line.back() != ' ') {
      line += ' ';
    }
  }
  while (line.ends_with(' ')) line.pop_back();
  return line;
}

// Names from the schema may be told where the server's words may quote the row.
std::string message_without_row(const PGresult* result) {
  std::string message = "the server refused it, in words that may quote the data";
  if (const auto name = field(result, PG_DIAG_CONSTRAINT_NAME); !name.empty()) {
    message.append(", by constraint \"").append(name).append("\"");
  }
  if (const auto name = field(result, PG_DIAG_TABLE_NAME); !name.empty()) {
    message.append(" on table \"").append(name).append("\"");
  }
  return message;
}

// The column is a field of its own only in errors of constraints; a COPY's context has it in its
// last line (`COPY events, line 3, column id`: in the binary format without the value).
std::string_view column_of(const PGresult* result) {
  if (const auto name = field(result, PG_DIAG_COLUMN_NAME); !name.empty()) return name;
  constexpr std::string_view kMark = ", column ";
  std::string_view context = field(result, PG_DIAG_CONTEXT);
  context.remove_prefix(context.rfind('\n') + 1);  // npos + 1 is 0
  const std::size_t mark = context.find(kMark);
  if (!context.starts_with("COPY ") || mark == std::string_view::npos) return {};
  const std::string_view name = context.substr(mark + kMark.size());
  return name.substr(0, name.find(':'));
}

// The number in `COPY events, line 3, column id`, the last line of a COPY's context.
std::uint64_t row_of(const PGresult* result) {
  constexpr std::string_view kMark = ", line ";
  std::string_view context = field(result, PG_DIAG_CONTEXT);
  context.remove_prefix(context.rfind('\n') + 1);
  const std::size_t mark = context.find(kMark);
  if (!context.starts_with("COPY ") || mark == std::string_view::npos) return 0;
  const std::string_view number = context.substr(mark + kMark.size());
  std::uint64_t row = 0;
  (void)std::from_chars(number.data(), number.data() + number.size(), row);
  return row;
}

// The context has a line for each level of what the server was at: COPY itself, a query of its own
// (of a foreign key), functions.
bool is_of_function(std::string_view context) {
  while (!context.empty()) {
    const std::string_view line = context.substr(0, context.find('\n'));
    context.remove_prefix(std::min(context.size(), line.size() + 1));
    if (!line.starts_with("COPY ") && !line.starts_with("SQL statement ")) return true;
  }
  return false;
}

bool is_sqlstate(std::string_view text) {
  return text.size() == 5 && std::all_of(text.begin(), text.end(), [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z');
         });
}

// libpq gives the SQLSTATE of a refused connection only inside its verbose message:
// `connection to server … failed: FATAL:  28P01: password authentication failed for user "x"`, one
// for each host, each followed by a line that says where in the server's source it was. The last
// host's counts.
Failure connect_failure(std::string_view text, bool needs_password) {
  Failure failure;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.starts_with("LOCATION:")) continue;
    if (!failure.message.empty()) failure.message += "; ";
    for (std::size_t at = line.find(":  "); at != line.npos; at = line.find(":  ", at + 1)) {
      if (line.substr(at + 8, 2) != ": " || !is_sqlstate(line.substr(at + 3, 5))) continue;
      failure.sqlstate = line.substr(at + 3, 5);
      failure.message.append(line.substr(0, at + 2));
      line.remove_prefix(at + 10);
      break;
    }
    failure.message.append(line);
  }
  failure.message = one_line(failure.message);
  // A missing password is noticed by libpq itself, which has no SQLSTATEs.
  if (failure.sqlstate.empty() && needs_password) failure.sqlstate = "28P01";
  return failure;
}

// Whether the socket can be read from or written to, as asked, right now.
bool is_ready(const IoWait& wait) {
  pollfd descriptor{wait.fd, 0, 0};
  if (wait.read) descriptor.events |= POLLIN;
  if (wait.write) descriptor.events |= POLLOUT;
  return poll(&descriptor, 1, 0) > 0;
}

// libpq quotes what it stumbled over, which may be a piece of a password.
std::string without_quotes(std::string_view text) {
  if (text.starts_with("missing \"=\" after ")) return "a word without \"=\"";
  return one_line(text.substr(0, text.find_first_of("\"\n")));
}

}  // namespace

std::string dsn_problem(const std::string& dsn) {
  // Anything else is the name of a database to libpq.
  const bool is_parsed = dsn.find('=') != std::string::npos || dsn.starts_with("postgres://") ||
                         dsn.starts_with("postgresql://");
  if (!is_parsed) return {};
  char* message = nullptr;
  PQconninfoOption* const options = PQconninfoParse(dsn.c_str(), &message);
  if (options != nullptr) {
    PQconninfoFree(options);
    return {};
  }
  const std::string problem = message == nullptr ? "out of memory" : without_quotes(message);
  PQfreemem(message);
  return problem;
}

void PostgresSession::CloseConnection::operator()(pg_conn* connection) const {
  PQfinish(connection);
}

void PostgresSession::ClearResult::operator()(pg_result* result) const {
  PQclear(result);
}

PostgresSession::PostgresSession(std::string dsn, FunctionErrors function_errors)
    : dsn_(std::move(dsn)), function_errors_(function_errors) {}

PostgresSession::~PostgresSession() = default;

void PostgresSession::begin_operation() {
  failed_ = false;
  failed_by_error_ = false;
  interrupted_ = false;
  notices_ = 0;
  warnings_ = 0;
  statements_.clear();
  failure_ = {};
}

void PostgresSession::start_connect() {
  disconnect();
  begin_operation();
  // Of a name that stands twice the last counts: the connection string may overrule what stands
  // before it, and not what stands behind it.
  // The keepalives end a wait for an answer that a silent partition keeps away, as the answer to
  // COMMIT, after 25 s; the user timeout (milliseconds) ends the sending of rows after 15 s.
  constexpr auto kNames =
      std::to_array<const char*>({"target_session_attrs", "fallback_application_name",
                                  "keepalives_idle", "keepalives_interval", "keepalives_count",
                                  "tcp_user_timeout", "dbname", "client_encoding", nullptr});
  const std::array<const char*, kNames.size()> values = {
      "read-write", "sluice", "10", "5", "3", "15000", dsn_.c_str(), "UTF8", nullptr};
  constexpr int kExpandDbname = 1;
  connection_.reset(PQconnectStartParams(kNames.data(), values.data(), kExpandDbname));
  if (!connection_) throw std::bad_alloc();
  lost_ = false;
  flushed_ = true;
  PQsetErrorVerbosity(connection_.get(), PQERRORS_VERBOSE);
  PQsetNoticeReceiver(connection_.get(), &PostgresSession::on_notice, this);
  state_ = State::connecting;
  connect_wait_ = {PQsocket(connection_.get()), false, true};
}

void PostgresSession::start_query(const std::string& sql) {
  begin_operation();
  state_ = State::busy;
  if (!connected() || PQsendQuery(connection_.get(), sql.c_str()) != 1) {
    lost_ = true;
    return fail(
        {"", connection_ ? one_line(PQerrorMessage(connection_.get())) : "not connected", ""});
  }
  flush();
}

void PostgresSession::start_end_copy() {
  begin_operation();
  state_ = State::busy;
  if (!connection_) return fail({"", "not connected", ""});
  // A failure here shows itself in the results, together with the server's last words.
  (void)PQputCopyEnd(connection_.get(), nullptr);
  flush();
}

void PostgresSession::put_data(std::span<const std::byte> bytes) {
  if (!connection_) return;
  look_for_interruption();
  const auto* data = reinterpret_cast<const char*>(bytes.data());
  if (PQputCopyData(connection_.get(), data, static_cast<int>(bytes.size())) != 1) {
    interrupted_ = true;
  }
  flushed_ = false;
}

bool PostgresSession::ready_for_data() {
  if (!connection_) return true;
  look_for_interruption();
  flush();
  return flushed_ || interrupted_;
}

void PostgresSession::flush() {
  const int left = PQflush(connection_.get());
  flushed_ = left == 0;
  if (left < 0) interrupted_ = true;
}

// Has to come before anything is sent: when the socket is full, libpq reads what the server said
// into its own buffer, where nobody can see it. An answer that comes in just between goes unnoticed
// in this way until the COPY is ended.
void PostgresSession::look_for_interruption() {
  if (interrupted_) return;
  const IoWait readable{PQsocket(connection_.get()), true, false};
  if (readable.fd >= 0 && !is_ready(readable)) return;
  const std::size_t notices_before = notices_;
  const bool alive = PQconsumeInput(connection_.get()) == 1;
  // In a COPY this parses notices, and stops at anything else.
  (void)PQisBusy(connection_.get());
  interrupted_ = !alive || notices_ == notices_before;
}

Progress PostgresSession::advance() {
  switch (state_) {
    case State::connecting:
      return advance_connect();
    case State::busy:
      return advance_results();
    case State::closed:
    case State::ready:
    case State::copying:
      return failed_ ? Progress::failed : Progress::done;
  }
  std::abort();
}

Progress PostgresSession::advance_connect() {
  if (PQstatus(connection_.get()) == CONNECTION_BAD) return connect_failed();
  // PQconnectPoll takes a socket that is not ready yet for one that is connected.
  if (connect_wait_.fd >= 0 && !is_ready(connect_wait_)) return Progress::working;
  const PostgresPollingStatusType status = PQconnectPoll(connection_.get());
  const int fd = PQsocket(connection_.get());
  switch (status) {
    case PGRES_POLLING_READING:
      connect_wait_ = {fd, true, false};
      return Progress::working;
    case PGRES_POLLING_WRITING:
      connect_wait_ = {fd, false, true};
      return Progress::working;
    case PGRES_POLLING_OK:
      if (PQsetnonblocking(connection_.get(), 1) != 0) return connect_failed();
      state_ = State::ready;
      return Progress::done;
    case PGRES_POLLING_FAILED:
    case PGRES_POLLING_ACTIVE:
      break;
  }
  return connect_failed();
}

Progress PostgresSession::connect_failed() {
  lost_ = true;
  fail(connect_failure(PQerrorMessage(connection_.get()),
                       PQconnectionNeedsPassword(connection_.get()) == 1));
  return finish();
}

Progress PostgresSession::advance_results() {
  if (failed_ && lost_) return finish();
  flush();
  // On a lost connection PQgetResult returns at once what the server said last, and then the loss.
  const bool alive = PQconsumeInput(connection_.get()) == 1;
  while (!alive || PQisBusy(connection_.get()) == 0) {
    const Result result(PQgetResult(connection_.get()));
    if (!result) return finish();
    take(result.get());
    if (state_ == State::copying) return Progress::done;
    if (lost_) return finish();
  }
  flush();
  return Progress::working;
}

Progress PostgresSession::finish() {
  state_ = State::ready;
  if (connection_ && PQstatus(connection_.get()) == CONNECTION_BAD) {
    lost_ = true;
    if (!failed_) fail({"", one_line(PQerrorMessage(connection_.get())), ""});
  }
  return failed_ ? Progress::failed : Progress::done;
}

void PostgresSession::take(const pg_result* result) {
  switch (PQresultStatus(result)) {
    case PGRES_EMPTY_QUERY:
    case PGRES_COMMAND_OK:
    case PGRES_TUPLES_OK: {
      Statement& statement = statements_.emplace_back();
      statement.tag = PQcmdStatus(const_cast<PGresult*>(result));  // libpq reads it only
      for (int row = 0; row < PQntuples(result); ++row) {
        auto& values = statement.rows.emplace_back();
        for (int column = 0; column < PQnfields(result); ++column) {
          const bool is_null = PQgetisnull(result, row, column) == 1;
          values.push_back(is_null ? std::nullopt
                                   : std::optional<std::string>(PQgetvalue(result, row, column)));
        }
      }
      return;
    }
    case PGRES_COPY_IN:
      state_ = State::copying;
      flushed_ = true;
      return;
    case PGRES_FATAL_ERROR:
      return take_error(result);
    case PGRES_BAD_RESPONSE:
    case PGRES_NONFATAL_ERROR:
    case PGRES_COPY_OUT:
    case PGRES_COPY_BOTH:
    case PGRES_SINGLE_TUPLE:
    case PGRES_PIPELINE_SYNC:
    case PGRES_PIPELINE_ABORTED:
      lost_ = true;
      return fail({"", "the server gave an answer that nobody asked for", ""});
  }
}

void PostgresSession::take_error(const pg_result* result) {
  if (failed_) return;
  const std::string_view sqlstate = field(result, PG_DIAG_SQLSTATE);
  Failure failure{std::string(sqlstate), "", one_line(column_of(result)), row_of(result),
                  is_of_function(field(result, PG_DIAG_CONTEXT))};
  if (sqlstate.empty()) {
    failure.message = one_line(PQresultErrorMessage(result));
  } else if (shows_no_row(sqlstate) &&
             (!failure.is_of_function || function_errors_ == FunctionErrors::told)) {
    failure.message = one_line(field(result, PG_DIAG_MESSAGE_PRIMARY));
  } else {
    failure.message = one_line(message_without_row(result));
  }
  failed_by_error_ = field(result, PG_DIAG_SEVERITY_NONLOCALIZED) == "ERROR";
  fail(std::move(failure));
}

void PostgresSession::fail(Failure failure) {
  failed_ = true;
  failure_ = std::move(failure);
}

void PostgresSession::on_notice(void* session, const pg_result* notice) {
  auto* const self = static_cast<PostgresSession*>(session);
  ++self->notices_;
  if (field(notice, PG_DIAG_SEVERITY_NONLOCALIZED) == "WARNING") ++self->warnings_;
}

bool PostgresSession::connected() const {
  return connection_ && !lost_ && state_ != State::connecting;
}

bool PostgresSession::still_open() {
  if (!connected()) return false;
  if (!is_ready({PQsocket(connection_.get()), true, false})) return true;
  const bool alive = PQconsumeInput(connection_.get()) == 1;
  (void)PQisBusy(connection_.get());  // parses notices and the server's last words
  lost_ = !alive || PQstatus(connection_.get()) == CONNECTION_BAD;
  return !lost_;
}

IoWait PostgresSession::wait() const {
  if (!connection_) return {};
  if (state_ == State::connecting) return connect_wait_;
  return {PQsocket(connection_.get()), true, !flushed_};
}

void PostgresSession::disconnect() {
  connection_.reset();
  state_ = State::closed;
}

}  // namespace sluice::sink
