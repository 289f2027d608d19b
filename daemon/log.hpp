// The daemon's own log: one line for each change of state, to stderr, as text or as JSON.
#pragma once

#include <chrono>
#include <concepts>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>

#include "daemon/rate_limiter.hpp"

namespace sluice::daemon {

enum class LogLevel { debug, info, warning, error };

// "debug", "info", "warning" (or "warn"), "error". Throws std::invalid_argument for another word.
[[nodiscard]] LogLevel log_level(std::string_view word);

enum class LogFormat {
  text,     // time, level, message, name=value …
  journal,  // the same without the time, behind the priority that journald reads, as in "<6>"
  json,     // {"time":…,"level":…,"message":…,"name":…}
};

// "text" or "json"; text becomes journal where stderr is journald's (JOURNAL_STREAM is set). Throws
// std::invalid_argument for another word.
[[nodiscard]] LogFormat log_format(std::string_view word);

// A fact beside the message. Values may hold any bytes: they are escaped, and cut when they are
// long.
struct LogField {
  std::string_view name;
  std::string value;
  bool is_number = false;

  LogField(std::string_view field, std::string_view text) : name(field), value(text) {}
  LogField(std::string_view field, const char* text) : name(field), value(text) {}
  LogField(std::string_view field, std::integral auto number)
      : name(field), value(std::to_string(number)), is_number(true) {}
};
using LogFields = std::initializer_list<LogField>;

struct LogOptions {
  LogLevel level = LogLevel::info;
  LogFormat format = LogFormat::text;
  RateLimits limits;
  // Takes a whole line with its newline. By default: one write to stderr.
  std::function<void(std::string_view line)> write;
  std::function<RateLimiter::Clock::time_point()> now = RateLimiter::Clock::now;
};

// Payloads never go in here. Threads: any.
class Log final {
 public:
  explicit Log(LogOptions options);
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;
  ~Log();

  void debug(std::string_view message, LogFields fields = {}) {
    write(LogLevel::debug, message, fields);
  }
  void info(std::string_view message, LogFields fields = {}) {
    write(LogLevel::info, message, fields);
  }
  void warning(std::string_view message, LogFields fields = {}) {
    write(LogLevel::warning, message, fields);
  }
  void error(std::string_view message, LogFields fields = {}) {
    write(LogLevel::error, message, fields);
  }
  void write(LogLevel level, std::string_view message, LogFields fields);

  // For what others can make happen again and again: lines of one key beyond the rate are counted,
  // and the next one tells how many as "suppressed".
  void repeated(std::string_view key, LogLevel level, std::string_view message,
                LogFields fields = {});

 private:
  class Lines;
  const std::unique_ptr<Lines> lines_;
};

}  // namespace sluice::daemon
