// A reader of the few flat objects that the daemon writes; what is deeper is skipped by its
// brackets.
#include "daemon/answer_line.hpp"

#include <fmt/core.h>

#include <charconv>

#include "daemon/printable.hpp"

namespace sluice::daemon {

namespace {

class Cursor final {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}

  [[nodiscard]] char peek() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\r')) {
      ++at_;
    }
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  [[nodiscard]] bool take(char wanted) {
    if (peek() != wanted) return false;
    ++at_;
    return true;
  }
  // The inside of a string, its escapes left as they are.
  [[nodiscard]] std::optional<std::string_view> string() {
    if (!take('"')) return std::nullopt;
    const std::size_t begin = at_;
    for (; at_ < text_.size(); ++at_) {
      if (text_[at_] == '\\') {
        ++at_;
      } else if (text_[at_] == '"') {
        return text_.substr(begin, at_++ - begin);
      }
    }
    return std::nullopt;
  }
  // A value that is no string: its text up to the comma or bracket behind it.
  [[nodiscard]] std::optional<std::string_view> other_value() {
    (void)peek();
    const std::size_t begin = at_;
    for (int depth = 0; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (c == '"') {
        if (!string()) return std::nullopt;
        --at_;
      } else if (c == '{' || c == '[') {
        ++depth;
      } else if (depth == 0 && (c == ',' || c == '}')) {
        return text_.substr(begin, at_ - begin);
      } else if (c == '}' || c == ']') {
        --depth;
      }
    }
    return std::nullopt;
  }

 private:
  std::string_view text_;
  std::size_t at_ = 0;
};

std::string unescaped(std::string_view inside) {
  std::string text;
  for (std::size_t at = 0; at < inside.size(); ++at) {
    // Of the escapes only those of printable characters: the rest stays visible as it is.
    const bool plain = inside[at] == '\\' && at + 1 < inside.size() &&
                       (inside[at + 1] == '"' || inside[at + 1] == '\\' || inside[at + 1] == '/');
    if (plain) ++at;
    text += inside[at];
  }
  return text;
}

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{}) return std::nullopt;
  return value;
}

void set_text(AnswerLine& answer, std::string_view key, std::string_view inside) {
  if (key == "error") answer.error = unescaped(inside);
  if (key == "durability") answer.durability = unescaped(inside);
  if (key == "ack") answer.stage = unescaped(inside);
  if (key == "code") answer.code = unescaped(inside);
}

void set_other(AnswerLine& answer, std::string_view key, std::string_view value) {
  if (key == "sluice") answer.sluice = number(value);
  if (key == "line_bytes_max") answer.line_bytes_max = number(value);
  if (key == "have") answer.have = number(value);
  if (key == "ack") answer.ack = number(value);
  if (key == "nack") answer.nack = number(value);
  if (key == "nacks_unsent") answer.nacks_unsent = number(value);
  if (key == "done") answer.done = number(value);
  if (key == "retry") answer.retry = value.starts_with("true");
}

}  // namespace

std::optional<AnswerLine> parse_answer(std::string_view line) {
  Cursor cursor(line);
  AnswerLine answer;
  if (!cursor.take('{')) return std::nullopt;
  if (cursor.take('}')) return answer;
  do {
    const auto key = cursor.string();
    if (!key || !cursor.take(':')) return std::nullopt;
    const bool is_text = cursor.peek() == '"';
    const auto value = is_text ? cursor.string() : cursor.other_value();
    if (!value) return std::nullopt;
    is_text ? set_text(answer, *key, *value) : set_other(answer, *key, *value);
  } while (cursor.take(','));
  if (!cursor.take('}')) return std::nullopt;
  return answer;
}

std::string hello_line(std::string_view stage, std::string_view producer, std::uint64_t first) {
  return fmt::format("{{\"sluice\":1,\"ack\":\"{}\",\"producer\":\"{}\",\"first\":{}}}\n", stage,
                     json_inside(producer), first);
}

}  // namespace sluice::daemon
