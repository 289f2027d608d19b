// One connection to Postgres through libpq, never blocking: SQL strings in, the outcome of each of
// their statements out.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "sink/database.hpp"

struct pg_conn;
struct pg_result;

namespace sluice::sink {

// What one statement of a string ended with, in good order.
struct Statement {
  std::string tag;  // "COMMIT", "COPY 10", …; a failed transaction's COMMIT has "ROLLBACK"
  std::vector<std::vector<std::optional<std::string>>> rows;  // what it returned, as text
};

// Why libpq cannot make sense of a connection string; empty: it can. Never repeats the string's
// values.
[[nodiscard]] std::string dsn_problem(const std::string& dsn);

// The words of errors from functions of the database. They may quote rows, where some are sent.
enum class FunctionErrors { withheld, told };

// Simple query protocol only and no state of the session's own, so that a pooler in transaction
// mode may stand between.
//
// An operation is started by one call and driven by advance() until it is done or failed; the next
// is started after that. The caller keeps the time: an operation that takes too long ends with
// disconnect(). Names of hosts are resolved by libpq within start_connect() and advance(), which
// blocks as long as the resolver does.
//
// Thread: one.
class PostgresSession final {
 public:
  // `dsn` is a connection string or URI as libpq has them; empty: all from the environment.
  explicit PostgresSession(std::string dsn,
                           FunctionErrors function_errors = FunctionErrors::withheld);
  PostgresSession(const PostgresSession&) = delete;
  PostgresSession& operator=(const PostgresSession&) = delete;
  ~PostgresSession();

  // Operation: a new connection, the old one dropped. To a server that takes writes, unless the
  // connection string asks for another target_session_attrs.
  void start_connect();
  // Operation: one string of statements. Done when all have ended, or when a COPY FROM STDIN waits
  // for data; the statements behind that one run after start_end_copy().
  void start_query(const std::string& sql);
  // Operation: ends the data of a COPY, and then as start_query().
  void start_end_copy();

  // Hands over data in a COPY. libpq keeps what the socket does not take, without bound.
  // REQUIRES: ready_for_data(), or the memory for what stays.
  void put_data(std::span<const std::byte> bytes);
  // Sends what it can; true when all data has left, or when there is no use in waiting.
  [[nodiscard]] bool ready_for_data();
  // True when the server spoke during the COPY, other than by a notice: it has refused a row, or is
  // gone. What it said is heard when the COPY is ended. Seldom an answer is missed, then that is
  // when it is noticed.
  [[nodiscard]] bool interrupted() const { return interrupted_; }

  [[nodiscard]] Progress advance();
  // Of the operation that is done or failed: the statements that went well.
  [[nodiscard]] const std::vector<Statement>& statements() const { return statements_; }
  // How many WARNINGs came since the operation was started.
  [[nodiscard]] std::size_t warnings() const { return warnings_; }
  // The first error of the operation that failed.
  [[nodiscard]] const Failure& failure() const { return failure_; }
  // Whether that was an ERROR, with which the server ended the transaction and nothing else: a lost
  // connection or a FATAL says nothing about the transaction.
  [[nodiscard]] bool failed_by_error() const { return failed_by_error_; }
  [[nodiscard]] bool connected() const;
  // Between operations: takes in what the server said meanwhile. False once it has closed the
  // connection.
  [[nodiscard]] bool still_open();
  [[nodiscard]] bool in_copy() const { return state_ == State::copying; }
  // What advance() or ready_for_data() waits for.
  [[nodiscard]] IoWait wait() const;
  void disconnect();

 private:
  enum class State {
    closed,
    connecting,
    ready,    // nothing under way
    busy,     // results are to come
    copying,  // the server waits for data
  };
  struct CloseConnection {
    void operator()(pg_conn* connection) const;
  };
  struct ClearResult {
    void operator()(pg_result* result) const;
  };
  using Result = std::unique_ptr<pg_result, ClearResult>;

  static void on_notice(void* session, const pg_result* notice);

  [[nodiscard]] Progress advance_connect();
  [[nodiscard]] Progress connect_failed();
  [[nodiscard]] Progress advance_results();
  [[nodiscard]] Progress finish();
  void begin_operation();
  void take(const pg_result* result);
  void take_error(const pg_result* result);
  void fail(Failure failure);
  void flush();
  void look_for_interruption();

  const std::string dsn_;
  const FunctionErrors function_errors_;
  std::unique_ptr<pg_conn, CloseConnection> connection_;
  State state_ = State::closed;
  IoWait connect_wait_;  // while connecting
  bool flushed_ = true;  // libpq holds nothing that is to be sent
  bool lost_ = false;    // the connection is of no more use
  bool failed_ = false;  // the operation under way; failure_ says why
  bool failed_by_error_ = false;
  bool interrupted_ = false;
  std::size_t notices_ = 0;   // of any kind, since the operation was started
  std::size_t warnings_ = 0;  // of these, WARNINGs
  std::vector<Statement> statements_;
  Failure failure_;
};

}  // namespace sluice::sink
