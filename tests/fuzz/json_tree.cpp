#include "tests/fuzz/json_tree.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

namespace sluice::fuzz {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
// Deeper text is not read: the targets' inputs are refused long before.
constexpr std::size_t kDepthMax = 200;

std::string utf8_of(std::uint32_t point) {
  if (point < 0x80) return {static_cast<char>(point)};
  for (std::string bytes;; point >>= 6) {
    bytes.insert(bytes.begin(), static_cast<char>(0x80 | (point & 0x3F)));
    const std::size_t count = bytes.size() + 1;
    const std::uint32_t room = 0x7Fu >> count;  // what the first byte of so many holds
    if (point >> 6 <= room) {
      const std::uint32_t mark = 0xFF & (0xFF00u >> count);
      bytes.insert(bytes.begin(), static_cast<char>(mark | point >> 6));
      return bytes;
    }
  }
}

// How many bytes a sequence has that begins so; 0: none does.
std::size_t bytes_of_sequence(std::uint8_t lead) {
  if (lead < 0x80) return 1;
  if (lead >= 0xC0 && lead < 0xE0) return 2;
  if (lead >= 0xE0 && lead < 0xF0) return 3;
  if (lead >= 0xF0 && lead < 0xF8) return 4;
  return 0;
}

// Whether some character's UTF-8 begins with the bytes: the least and the greatest number that
// could come of them are compared with those that there are.
bool begins_a_character(std::string_view bytes) {
  const std::size_t size = bytes_of_sequence(static_cast<std::uint8_t>(bytes.front()));
  if (size == 0 || bytes.size() > size) return false;
  constexpr std::array<std::uint32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
  constexpr std::array<std::uint32_t, 5> kMost = {0, 0x7F, 0x7FF, 0xFFFF, 0x10FFFF};
  std::uint32_t low = static_cast<std::uint8_t>(bytes.front());
  if (size > 1) low &= 0x7Fu >> size;
  std::uint32_t high = low;
  for (std::size_t i = 1; i < size; ++i) {
    const bool is_there = i < bytes.size();
    const auto byte = is_there ? static_cast<std::uint8_t>(bytes[i]) : std::uint8_t{0};
    if (is_there && (byte & 0xC0) != 0x80) return false;
    low = low << 6 | (is_there ? byte & 0x3Fu : 0);
    high = high << 6 | (is_there ? byte & 0x3Fu : 0x3F);
  }
  if (high < kLeast[size] || low > kMost[size]) return false;
  return low < 0xD800 || high > 0xDFFF;
}

class Reader {
 public:
  Reader(std::string_view text, const TextRules& rules, TextSeen& seen)
      : text_(text), rules_(rules), seen_(seen) {}

  std::optional<JsonTree> read() {
    JsonTree tree;
    skip_space();
    if (!value(tree, 0)) return std::nullopt;
    skip_space();
    if (at_ != text_.size()) return std::nullopt;
    return tree;
  }

 private:
  [[nodiscard]] char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  [[nodiscard]] bool take(std::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }
  void skip_space() {
    while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != text_.npos) ++at_;
  }

  bool value(JsonTree& tree, std::size_t depth) {
    switch (peek()) {
      case '{':
        tree.kind = JsonTree::Kind::object;
        return enter(depth + 1) && object(tree, depth + 1);
      case '[':
        tree.kind = JsonTree::Kind::array;
        return enter(depth + 1) && array(tree, depth + 1);
      case '"':
        tree.kind = JsonTree::Kind::string;
        return string(tree.text);
      case 'n':
        return take("null");
      case 't':
      case 'f':
        tree.kind = JsonTree::Kind::boolean;
        tree.text = peek() == 't' ? "true" : "false";
        return take(tree.text);
      default:
        tree.kind = JsonTree::Kind::number;
        return number(tree.text);
    }
  }

  bool enter(std::size_t depth) {
    seen_.depth = std::max(seen_.depth, depth);
    return depth <= kDepthMax;
  }

  bool object(JsonTree& tree, std::size_t depth) {
    ++at_;
    skip_space();
    if (take("}")) return true;
    for (;;) {
      std::string key;
      JsonTree member;
      if (peek() != '"' || !string(key)) return false;
      skip_space();
      if (!take(":")) return false;
      skip_space();
      if (!value(member, depth)) return false;
      tree.members.push_back({std::move(key), std::move(member)});
      skip_space();
      if (take("}")) return true;
      if (!take(",")) return false;
      skip_space();
    }
  }

  bool array(JsonTree& tree, std::size_t depth) {
    ++at_;
    skip_space();
    if (take("]")) return true;
    for (;;) {
      if (!value(tree.items.emplace_back(), depth)) return false;
      skip_space();
      if (take("]")) return true;
      if (!take(",")) return false;
      skip_space();
    }
  }

  bool digits() {
    const std::size_t begin = at_;
    while (peek() >= '0' && peek() <= '9') ++at_;
    return at_ != begin;
  }

  bool number(std::string& text) {
    const std::size_t begin = at_;
    (void)take("-");
    if (!take("0") && !digits()) return false;
    if (take(".") && !digits()) return false;
    if (peek() == 'e' || peek() == 'E') {
      ++at_;
      if (!take("+")) (void)take("-");
      if (!digits()) return false;
    }
    text = text_.substr(begin, at_ - begin);
    return true;
  }

  bool string(std::string& out) {
    ++at_;
    while (at_ < text_.size()) {
      const auto byte = static_cast<std::uint8_t>(text_[at_]);
      if (byte == '"') {
        ++at_;
        return true;
      }
      if (byte < 0x20) return false;
      if (byte == '\\') {
        if (!escape(out)) return false;
      } else {
        character(out);
      }
    }
    return false;
  }

  // One character, or the longest run of bytes that could have begun one.
  void character(std::string& out) {
    std::size_t size = 1;
    while (at_ + size < text_.size() && begins_a_character(text_.substr(at_, size + 1))) ++size;
    const std::string_view bytes = text_.substr(at_, size);
    const bool is_whole = begins_a_character(bytes) &&
                          size == bytes_of_sequence(static_cast<std::uint8_t>(bytes.front()));
    seen_.bad_utf8 = seen_.bad_utf8 || !is_whole;
    out += is_whole || !rules_.replace_text ? bytes : kReplacement;
    at_ += size;
  }

  std::optional<std::uint32_t> unit_at(std::size_t at) const {
    if (text_.substr(at, 2) != "\\u" || text_.size() - at < 6) return std::nullopt;
    std::uint32_t unit = 0;
    for (const char c : text_.substr(at + 2, 4)) {
      const auto digit = std::string_view("0123456789abcdef0123456789ABCDEF").find(c);
      if (digit == std::string_view::npos) return std::nullopt;
      unit = unit * 16 + static_cast<std::uint32_t>(digit % 16);
    }
    return unit;
  }

  bool escape(std::string& out) {
    constexpr std::string_view kLetters = "\"\\/bfnrt";
    constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    const auto unit = unit_at(at_);
    if (!unit) {
      if (at_ + 1 == text_.size()) return false;
      const auto which = kLetters.find(text_[at_ + 1]);
      if (which == std::string_view::npos) return false;
      out += kMeanings[which];
      at_ += 2;
      return true;
    }
    at_ += 6;
    if (*unit >= 0xD800 && *unit < 0xE000) {
      surrogate(*unit, out);
    } else if (*unit == 0) {
      seen_.nul = true;
      if (rules_.nul == TextRules::Nul::keep) out += '\0';
      if (rules_.nul == TextRules::Nul::replace) out += kReplacement;
    } else {
      out += utf8_of(*unit);
    }
    return true;
  }

  // `unit` stands before at_.
  void surrogate(std::uint32_t unit, std::string& out) {
    const auto next = unit_at(at_);
    if (unit < 0xDC00 && next && *next >= 0xDC00 && *next < 0xE000) {
      out += utf8_of(0x10000 + (unit - 0xD800) * 0x400 + (*next - 0xDC00));
      at_ += 6;
      return;
    }
    seen_.lone_surrogate = true;
    out += kReplacement;
  }

  const std::string_view text_;
  const TextRules rules_;
  TextSeen& seen_;
  std::size_t at_ = 0;
};

}  // namespace

bool JsonTree::operator==(const JsonTree& other) const {
  return kind == other.kind && text == other.text && items == other.items &&
         members == other.members;
}

const JsonTree* JsonTree::find(std::string_view name) const {
  for (auto member = members.rbegin(); member != members.rend(); ++member) {
    if (member->key == name) return &member->value;
  }
  return nullptr;
}

std::optional<JsonTree> read_json(std::string_view text, const TextRules& rules, TextSeen& seen) {
  return Reader(text, rules, seen).read();
}

}  // namespace sluice::fuzz
