// The log by spdlog: its levels, patterns and lock, over a sink that writes a line at once.
#include "daemon/log.hpp"

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "daemon/printable.hpp"

namespace sluice::daemon {
namespace {

using LineWriter = std::function<void(std::string_view)>;

// One write for one line, so that lines of several processes do not mix. A log that cannot be
// written is no reason to stop.
void write_to_stderr(std::string_view line) {
  while (!line.empty()) {
    const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    line.remove_prefix(static_cast<std::size_t>(written));
  }
}

class LineSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit LineSink(LineWriter write) : write_(std::move(write)) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    write_({line.data(), line.size()});
  }
  void flush_() override {}

  const LineWriter write_;
};

// The pattern's %*: the priority as sd-daemon(3) names it.
class JournalPriority final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& line) override {
    const std::string_view priority = priority_of(message.level);
    line.append(priority.data(), priority.data() + priority.size());
  }
  [[nodiscard]] std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<JournalPriority>();
  }

 private:
  static std::string_view priority_of(spdlog::level::level_enum level) {
    if (level >= spdlog::level::err) return "<3>";
    if (level == spdlog::level::warn) return "<4>";
    return level == spdlog::level::info ? "<6>" : "<7>";
  }
};

std::string pattern_of(LogFormat format) {
  switch (format) {
    case LogFormat::text:
      return "%Y-%m-%dT%H:%M:%S.%eZ %l: %v";
    case LogFormat::journal:
      return "%*%v";
    case LogFormat::json:
      return R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l",%v})";
  }
  return "%v";
}

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

bool needs_quotes(std::string_view value) {
  return value.empty() || value.find_first_of(" \"=") != std::string_view::npos;
}

void append_text(std::string& line, const LogField& field) {
  line.append(" ").append(field.name).append("=");
  if (needs_quotes(field.value)) {
    line.append("\"").append(json_inside(field.value)).append("\"");
  } else {
    line.append(printable(field.value));
  }
}

void append_json(std::string& line, const LogField& field) {
  line.append(",\"").append(field.name).append("\":");
  if (field.is_number) {
    line.append(field.value);
  } else {
    line.append("\"").append(json_inside(field.value)).append("\"");
  }
}

}  // namespace

class Log::Lines final {
 public:
  explicit Lines(LogOptions options)
      : format_(options.format),
        now_(std::move(options.now)),
        limiter_(options.limits),
        logger_("sluice", std::make_shared<LineSink>(options.write ? std::move(options.write)
                                                                   : LineWriter(write_to_stderr))) {
    auto formatter =
        std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc, "\n");
    formatter->add_flag<JournalPriority>('*').set_pattern(pattern_of(format_));
    logger_.set_formatter(std::move(formatter));
    logger_.set_level(spdlog_level(options.level));
  }

  void write(LogLevel level, std::string_view message, LogFields fields, std::uint64_t suppressed) {
    if (!logger_.should_log(spdlog_level(level))) return;
    const bool json = format_ == LogFormat::json;
    std::string line = json ? "\"message\":\"" + json_inside(message) + "\"" : printable(message);
    const auto append = json ? append_json : append_text;
    for (const LogField& field : fields) append(line, field);
    if (suppressed > 0) append(line, {"suppressed", suppressed});
    logger_.log(spdlog_level(level), spdlog::string_view_t(line.data(), line.size()));
  }

  std::optional<std::uint64_t> admit(std::string_view key) {
    const std::lock_guard lock(limiter_mutex_);
    return limiter_.admit(key, now_());
  }

 private:
  const LogFormat format_;
  const std::function<RateLimiter::Clock::time_point()> now_;
  std::mutex limiter_mutex_;
  RateLimiter limiter_;
  spdlog::logger logger_;
};

Log::Log(LogOptions options) : lines_(std::make_unique<Lines>(std::move(options))) {}

Log::~Log() = default;

void Log::write(LogLevel level, std::string_view message, LogFields fields) {
  lines_->write(level, message, fields, 0);
}

void Log::repeated(std::string_view key, LogLevel level, std::string_view message,
                   LogFields fields) {
  if (const auto suppressed = lines_->admit(key))
    lines_->write(level, message, fields, *suppressed);
}

LogLevel log_level(std::string_view word) {
  if (word == "debug") return LogLevel::debug;
  if (word == "info") return LogLevel::info;
  if (word == "warning" || word == "warn") return LogLevel::warning;
  if (word == "error") return LogLevel::error;
  throw std::invalid_argument("log.level is not a level: " + printable(word, 50));
}

LogFormat log_format(std::string_view word) {
  if (word == "json") return LogFormat::json;
  if (word != "text")
    throw std::invalid_argument("log.format is not a format: " + printable(word, 50));
  return std::getenv("JOURNAL_STREAM") != nullptr ? LogFormat::journal : LogFormat::text;
}

}  // namespace sluice::daemon
