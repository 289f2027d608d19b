// Drives a session with poll() until its operation is done.
#include "daemon/blocking_postgres.hpp"

#include <poll.h>

#include <algorithm>

namespace sluice::daemon {

namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kConnectTimeout{5'000};
constexpr milliseconds kQueryTimeout{15'000};

std::string text_of(const sink::Failure& failure) {
  if (failure.sqlstate.empty()) return failure.message;
  return failure.message + " (" + failure.sqlstate + ")";
}

// Waits for what the session waits for; false when the time is up first.
bool wait_for(const sink::IoWait& wait, Clock::time_point deadline) {
  const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
  if (left <= milliseconds{0}) return false;
  pollfd descriptor{wait.fd, 0, 0};
  if (wait.read) descriptor.events |= POLLIN;
  if (wait.write) descriptor.events |= POLLOUT;
  // An interrupted wait is looked at again by the caller like any other.
  return poll(&descriptor, 1, static_cast<int>(left.count())) != 0;
}

template <typename Steps>
void wait_until_steps_are_done(Steps& steps, milliseconds timeout, const char* what) {
  const Clock::time_point deadline = Clock::now() + timeout;
  for (;;) {
    switch (steps.advance()) {
      case sink::Progress::done:
        return;
      case sink::Progress::failed:
        throw PostgresError(steps.failure());
      case sink::Progress::working:
        break;
    }
    if (wait_for(steps.wait(), deadline)) continue;
    steps.disconnect();
    throw PostgresError(
        {"",
         std::string(what) + " took longer than " + std::to_string(timeout.count() / 1'000) + " s",
         ""});
  }
}

}  // namespace

PostgresError::PostgresError(const sink::Failure& failure)
    : std::runtime_error(text_of(failure)), sqlstate_(failure.sqlstate) {}

BlockingPostgres::BlockingPostgres(const std::string& dsn)
    : session_(dsn, sink::FunctionErrors::told) {
  session_.start_connect();
  wait_until_done(session_, kConnectTimeout, "connecting");
}

const std::vector<sink::Statement>& BlockingPostgres::run(const std::string& sql,
                                                          milliseconds timeout) {
  session_.start_query(sql);
  wait_until_done(session_, timeout, "the answer");
  return session_.statements();
}

std::string BlockingPostgres::value(const std::string& sql) {
  const std::vector<sink::Statement>& statements = run(sql, kQueryTimeout);
  if (statements.empty() || statements.back().rows.empty()) return {};
  const auto& row = statements.back().rows.front();
  return row.empty() ? std::string() : row.front().value_or("");
}

void wait_until_done(sink::PostgresSession& steps, milliseconds timeout, const char* what) {
  wait_until_steps_are_done(steps, timeout, what);
}

void wait_until_done(sink::Database& steps, milliseconds timeout, const char* what) {
  wait_until_steps_are_done(steps, timeout, what);
}

}  // namespace sluice::daemon
