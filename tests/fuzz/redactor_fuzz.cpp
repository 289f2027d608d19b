// What a plain walk over the event's tree would take out is out of the line, and nothing else is.
//
// Input: which rules there are, and the line.
#include <algorithm>
#include <string>
#include <vector>

#include "ingest/redactor.hpp"
#include "tests/fuzz/fuzz_target.hpp"
#include "tests/fuzz/json_tree.hpp"

namespace sluice::fuzz {
namespace {

using ingest::RedactRule;

bool is_same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    return lower(x) == lower(y);
  });
}

using Path = std::vector<std::string>;

// `/a/*/b`, without escapes.
bool is_at(std::string_view pointer, const Path& path) {
  for (const std::string& token : path) {
    if (pointer.empty()) return false;
    pointer.remove_prefix(1);
    const std::string_view wanted = pointer.substr(0, pointer.find('/'));
    if (wanted != "*" && wanted != token) return false;
    pointer.remove_prefix(wanted.size());
  }
  return pointer.empty();
}

bool is_hit(const RedactRule& rule, const Path& path, bool is_member) {
  return std::any_of(rule.fields.begin(), rule.fields.end(), [&](const std::string& field) {
    return field.front() == '/' ? is_at(field, path)
                                : is_member && is_same_name(field, path.back());
  });
}

// Every value that a rule hits becomes what it is replaced with; a hash: no text.
void redact_plainly(JsonTree& tree, const std::vector<RedactRule>& rules, Path& path,
                    bool is_member) {
  for (const RedactRule& rule : rules) {
    if (path.empty() || !is_hit(rule, path, is_member)) continue;
    tree = {};
    tree.kind = JsonTree::Kind::string;
    tree.text = rule.action == RedactRule::Action::replace ? rule.with : "";
    return;
  }
  for (auto& [key, value] : tree.members) {
    path.push_back(key);
    redact_plainly(value, rules, path, true);
    path.pop_back();
  }
  for (std::size_t i = 0; i < tree.items.size(); ++i) {
    path.push_back(std::to_string(i));
    redact_plainly(tree.items[i], rules, path, false);
    path.pop_back();
  }
}

// The same places in what the redactor made, where a hash stands.
void blank_hashes(JsonTree& tree, const JsonTree& expected) {
  if (expected.kind == JsonTree::Kind::string && expected.text.empty() &&
      tree.kind == JsonTree::Kind::string) {
    tree.text.clear();
  }
  for (std::size_t i = 0; i < std::min(tree.members.size(), expected.members.size()); ++i) {
    blank_hashes(tree.members[i].value, expected.members[i].value);
  }
  for (std::size_t i = 0; i < std::min(tree.items.size(), expected.items.size()); ++i) {
    blank_hashes(tree.items[i], expected.items[i]);
  }
}

std::vector<RedactRule> rules_of(unsigned which) {
  std::vector<RedactRule> rules;
  if ((which & 1) != 0) rules.push_back({"names", {"secret", "k"}, "", {}, "***", ""});
  if ((which & 2) != 0)
    rules.push_back({"at", {"/data/token", "/data/*/b", "/a/0"}, "", {}, "\"\\\n", ""});
  if ((which & 4) != 0) {
    rules.push_back({"hash", {"h", "/data/*/*/h"}, "", RedactRule::Action::hash, "", "salt"});
  }
  return rules;
}

void check(std::string_view line, const std::vector<RedactRule>& rules) {
  TextSeen seen;
  auto expected = read_json(line, {}, seen);
  if (!expected || expected->kind != JsonTree::Kind::object || seen.depth > 64) return;
  ingest::Redactor redactor(rules);
  const ExactBytes redacted(redactor.redact(line, "log"));
  auto found = read_json(redacted.view(), {}, seen);
  must(found.has_value(), "a redacted line is JSON");
  Path path;
  redact_plainly(*expected, rules, path, true);
  blank_hashes(*found, *expected);
  must(*found == *expected, "what a rule hits is taken out, and nothing else");
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < redactor.rules(); ++i) count += redactor.count(i);
  must((count == 0) == (redacted.view() == line), "a line is changed where values are counted");
}

}  // namespace
}  // namespace sluice::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  sluice::fuzz::Input input(data, size);
  const unsigned which = input.byte();
  const sluice::fuzz::ExactBytes line(input.rest());
  sluice::fuzz::check(line.view(), sluice::fuzz::rules_of(which));
  return 0;
}
