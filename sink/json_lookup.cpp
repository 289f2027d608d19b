#include "sink/json_lookup.hpp"

#include <algorithm>
#include <charconv>

#include "sink/json_scan.hpp"

namespace sluice::sink {
namespace {

// As RFC 6901 writes them: no leading zeros.
std::optional<std::size_t> array_index(std::string_view token) {
  std::size_t index = 0;
  const char* const end = token.data() + token.size();
  const auto [stop, error] = std::from_chars(token.data(), end, index);
  const bool zeros = token.size() > 1 && token.front() == '0';
  if (token.empty() || zeros || stop != end || error != std::errc()) return std::nullopt;
  return index;
}

}  // namespace

std::vector<std::string> pointer_tokens(std::string_view pointer) {
  std::vector<std::string> tokens;
  for (std::size_t i = 0; i < pointer.size(); ++i) {
    if (pointer[i] == '/') {
      tokens.emplace_back();
    } else if (pointer[i] == '~' && i + 1 < pointer.size()) {
      tokens.back() += pointer[++i] == '0' ? '~' : '/';
    } else {
      tokens.back() += pointer[i];
    }
  }
  return tokens;
}

void JsonLookup::add(std::span<const std::string> path, std::size_t slot) {
  std::size_t at = 0;
  for (const std::string& token : path) {
    const auto& children = nodes_[at].children;
    const auto found = std::find_if(children.begin(), children.end(),
                                    [&](const Child& child) { return child.key == token; });
    if (found != children.end()) {
      at = found->node;
      continue;
    }
    nodes_[at].children.push_back({token, array_index(token), nodes_.size()});
    at = nodes_.size();
    nodes_.emplace_back();
  }
  nodes_[at].slot = slot;
}

void JsonLookup::find_in(std::string_view value, std::span<JsonValue> found) const {
  if (!value.empty()) (void)walk(nodes_.front(), value.data(), value.data() + value.size(), found);
}

void JsonLookup::find_in_members(std::string_view members, std::span<JsonValue> found,
                                 std::vector<std::string_view>& whole) const {
  const char* at = members.data();
  const char* const end = at + members.size();
  while (at != end && *at == '"') {
    const JsonMember member = member_at(at, end);
    const Node* const child = child_of(nodes_.front(), member);
    if (child == nullptr) {
      at = skip_comma(skip_value(member.value, end), end);
      continue;
    }
    const char* const behind = walk(*child, member.value, end, found);
    if (child->slot) {
      whole.emplace_back(member.begin, static_cast<std::size_t>(behind - member.begin));
    }
    at = skip_comma(behind, end);
  }
}

// Steps over a value that a path leads into or to.
const char* JsonLookup::walk(const Node& node, const char* at, const char* end,
                             std::span<JsonValue> found) const {
  forget(node, found);
  const bool goes_on = !node.children.empty();
  const char* const behind = goes_on && *at == '{'   ? walk_object(node, at, end, found)
                             : goes_on && *at == '[' ? walk_array(node, at, end, found)
                                                     : skip_value(at, end);
  if (node.slot) found[*node.slot] = value_between(at, behind);
  return behind;
}

const char* JsonLookup::walk_object(const Node& node, const char* at, const char* end,
                                    std::span<JsonValue> found) const {
  at = skip_space(at + 1, end);
  while (at != end && *at == '"') {
    const JsonMember member = member_at(at, end);
    const Node* const child = child_of(node, member);
    at = child == nullptr ? skip_value(member.value, end) : walk(*child, member.value, end, found);
    at = skip_comma(at, end);
  }
  return at == end ? end : at + 1;
}

const char* JsonLookup::walk_array(const Node& node, const char* at, const char* end,
                                   std::span<JsonValue> found) const {
  at = skip_space(at + 1, end);
  for (std::size_t index = 0; at != end && *at != ']'; ++index) {
    const auto child = std::find_if(node.children.begin(), node.children.end(),
                                    [&](const Child& each) { return each.index == index; });
    at = child == node.children.end() ? skip_value(at, end)
                                      : walk(nodes_[child->node], at, end, found);
    at = skip_comma(at, end);
  }
  return at == end ? end : at + 1;
}

const JsonLookup::Node* JsonLookup::child_of(const Node& node, const JsonMember& member) const {
  for (const Child& child : node.children) {
    if (key_is(member, child.key)) return &nodes_[child.node];
  }
  return nullptr;
}

// What an earlier member of the same key had.
void JsonLookup::forget(const Node& node, std::span<JsonValue> found) const {
  if (node.slot) found[*node.slot] = {};
  for (const Child& child : node.children) forget(nodes_[child.node], found);
}

}  // namespace sluice::sink
