// A connection to Postgres for commands that have nothing else to do: each call waits for its
// answer.
#pragma once

#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include "sink/database.hpp"
#include "sink/postgres_session.hpp"

namespace sluice::daemon {

// The connection was lost or never made, or the server refused a statement.
class PostgresError final : public std::runtime_error {
 public:
  explicit PostgresError(const sink::Failure& failure);

  // Empty: the connection itself failed, or the answer took too long.
  [[nodiscard]] const std::string& sqlstate() const { return sqlstate_; }

 private:
  std::string sqlstate_;
};

// Waits with poll() until the operation that `steps` (a session or a database) has under way is
// done. Throws PostgresError if it fails or takes longer than `timeout`; `what` names it.
void wait_until_done(sink::PostgresSession& steps, std::chrono::milliseconds timeout,
                     const char* what);
void wait_until_done(sink::Database& steps, std::chrono::milliseconds timeout, const char* what);

// Thread: one.
class BlockingPostgres final {
 public:
  // Connects; the constructor and run() throw PostgresError.
  explicit BlockingPostgres(const std::string& dsn);
  BlockingPostgres(const BlockingPostgres&) = delete;
  BlockingPostgres& operator=(const BlockingPostgres&) = delete;

  // Runs a string of statements. What is returned is valid until the next call.
  const std::vector<sink::Statement>& run(const std::string& sql,
                                          std::chrono::milliseconds timeout);
  // The first value of the last statement's first row; empty if it is NULL or there is none.
  [[nodiscard]] std::string value(const std::string& sql);
  // How many WARNINGs the last run() brought.
  [[nodiscard]] std::size_t warnings() const { return session_.warnings(); }

 private:
  sink::PostgresSession session_;
};

}  // namespace sluice::daemon
