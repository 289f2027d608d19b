#include "ingest/json_steps.hpp"

#include <algorithm>
#include <charconv>

namespace sluice::ingest {
namespace {

unsigned code_unit(std::string_view four_digits) {
  unsigned unit = 0;
  std::from_chars(four_digits.data(), four_digits.data() + four_digits.size(), unit, 16);
  return unit;
}

void append_utf8(std::string& out, unsigned code) {
  const auto byte = [&](unsigned value) { out += static_cast<char>(value); };
  if (code < 0x80) {
    byte(code);
  } else if (code < 0x800) {
    byte(0xc0 | code >> 6);
    byte(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    byte(0xe0 | code >> 12);
    byte(0x80 | (code >> 6 & 0x3f));
    byte(0x80 | (code & 0x3f));
  } else {
    byte(0xf0 | code >> 18);
    byte(0x80 | (code >> 12 & 0x3f));
    byte(0x80 | (code >> 6 & 0x3f));
    byte(0x80 | (code & 0x3f));
  }
}

// What an escape `\uXXXX` stands for, with the second of a pair if there is one. `at` is moved past
// it. REQUIRES: `at` is at the digits.
unsigned code_point(std::string_view literal, std::size_t& at) {
  const unsigned first = code_unit(literal.substr(at, 4));
  at += 4;
  if (first < 0xd800 || first > 0xdfff) return first;
  constexpr unsigned kReplacement = 0xfffd;
  if (first >= 0xdc00 || literal.substr(at, 2) != "\\u" || literal.size() < at + 6) {
    return kReplacement;
  }
  const unsigned second = code_unit(literal.substr(at + 2, 4));
  if (second < 0xdc00 || second > 0xdfff) return kReplacement;
  at += 6;
  return 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
}

std::string_view value_at(std::string_view json, std::size_t at) {
  return json.substr(at, skip_json_value(json, at) - at);
}

bool key_is(std::string_view literal, std::string_view key) {
  if (literal.find('\\') == std::string_view::npos) return literal == key;
  return decoded_json(literal) == key;
}

std::optional<std::string_view> member_of(std::string_view object, std::string_view key) {
  std::optional<std::string_view> found;
  std::size_t at = skip_json_space(object, 1);
  while (object[at] != '}') {
    const std::size_t key_end = skip_json_string(object, at);
    const bool is_it = key_is(object.substr(at + 1, key_end - at - 2), key);
    at = skip_json_space(object, skip_json_space(object, key_end) + 1);
    const std::string_view value = value_at(object, at);
    if (is_it) found = value;
    at = skip_json_space(object, at + value.size());
    if (object[at] == ',') at = skip_json_space(object, at + 1);
  }
  return found;
}

std::optional<std::string_view> element_of(std::string_view array, std::string_view index) {
  std::size_t at = skip_json_space(array, 1);
  for (std::size_t i = 0; array[at] != ']'; ++i) {
    const std::string_view value = value_at(array, at);
    if (std::to_string(i) == index) return value;
    at = skip_json_space(array, at + value.size());
    if (array[at] == ',') at = skip_json_space(array, at + 1);
  }
  return std::nullopt;
}

}  // namespace

std::size_t skip_json_space(std::string_view json, std::size_t at) {
  return std::min(json.find_first_not_of(" \t\r\n", at), json.size());
}

// A quote ends the string unless there is an odd number of backslashes before it.
std::size_t skip_json_string(std::string_view json, std::size_t begin) {
  for (std::size_t at = begin;;) {
    at = json.find('"', at + 1);
    std::size_t text_end = at;
    while (text_end - 1 > begin && json[text_end - 1] == '\\') --text_end;
    if ((at - text_end) % 2 == 0) return at + 1;
  }
}

std::size_t skip_json_value(std::string_view json, std::size_t at) {
  std::size_t depth = 0;
  do {
    switch (json[at]) {
      case '"':
        at = skip_json_string(json, at);
        break;
      case '{':
      case '[':
        ++depth;
        ++at;
        break;
      case '}':
      case ']':
        --depth;
        ++at;
        break;
      default:
        at = json.find_first_of(depth == 0 ? ",}] \t\r\n" : "\"{}[]", at);
    }
  } while (depth != 0);
  return at;
}

std::string decoded_json(std::string_view literal) {
  constexpr std::string_view kEscapes = "bfnrt";
  constexpr std::string_view kMeanings = "\b\f\n\r\t";
  std::string text;
  for (std::size_t at = 0; at < literal.size();) {
    if (literal[at] != '\\') {
      text += literal[at++];
      continue;
    }
    const char kind = literal[at + 1];
    at += 2;
    if (kind == 'u') {
      append_utf8(text, code_point(literal, at));
      continue;
    }
    const std::size_t known = kEscapes.find(kind);
    text += known == std::string_view::npos ? kind : kMeanings[known];
  }
  return text;
}

std::vector<std::string> pointer_tokens(std::string_view pointer) {
  std::vector<std::string> tokens;
  while (!pointer.empty()) {
    pointer.remove_prefix(1);
    const std::string_view raw = pointer.substr(0, pointer.find('/'));
    std::string& token = tokens.emplace_back();
    for (std::size_t i = 0; i < raw.size(); ++i) {
      const bool is_escape = raw[i] == '~' && i + 1 < raw.size();
      token += !is_escape ? raw[i] : raw[++i] == '1' ? '/' : '~';
    }
    pointer.remove_prefix(raw.size());
  }
  return tokens;
}

std::optional<std::string_view> follow_pointer(std::string_view value,
                                               std::span<const std::string> tokens) {
  std::optional<std::string_view> found = value;
  for (const std::string& token : tokens) {
    if (found->starts_with('{')) {
      found = member_of(*found, token);
    } else if (found->starts_with('[')) {
      found = element_of(*found, token);
    } else {
      return std::nullopt;
    }
    if (!found) return std::nullopt;
  }
  return found;
}

}  // namespace sluice::ingest
