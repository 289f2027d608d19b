#include "config/loader_redact.hpp"

#include <algorithm>
#include <string_view>
#include <utility>

#include "config/json_pointer.hpp"
#include "config/match_pattern.hpp"
#include "config/nearest_name.hpp"
#include "config/settings_table.hpp"

namespace sluice::config {

namespace {

constexpr std::size_t kRulesMax = 100;  // each is a series
constexpr std::size_t kFieldsMax = 1'000;
constexpr std::size_t kTextBytesMax = 200;

// A label's value that needs no quoting anywhere.
bool is_label(std::string_view name) {
  constexpr std::string_view kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
  return !name.empty() && name.size() <= 64 &&
         name.find_first_not_of(kAllowed) == std::string_view::npos;
}

// Whether the field takes in the top-level member dedupe_key or id.
bool takes_key(std::string_view field) {
  std::string lower(field);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return lower == "dedupe_key" || lower == "id" || field == "/dedupe_key" || field == "/id" ||
         field == "/*";
}

// Whether a `*` stands where it would be an ordinary character: in a name, or beside others between
// the slashes of a JSON pointer.
bool has_star_among_others(std::string_view field) {
  for (std::size_t at = field.find('*'); at != std::string_view::npos;
       at = field.find('*', at + 1)) {
    const bool begins = at != 0 && field[at - 1] == '/' && field.front() == '/';
    const bool ends = at + 1 == field.size() || field[at + 1] == '/';
    if (!begins || !ends) return true;
  }
  return false;
}

// One [[redact]], key by key.
class RedactReader final {
 public:
  explicit RedactReader(const RouteNote& note) : note_(note) {}

  Settings::Redaction read(const toml::table& table, const std::string& file) {
    rule_.place = file + ":" + std::to_string(table.source().begin.line);
    for (const auto& [key, value] : table) read_key(key.str(), key.source(), value);
    check_together(table);
    return std::move(rule_);
  }

 private:
  void read_key(std::string_view key, const toml::source_region& where, const toml::node& value) {
    if (key == "fields") return read_fields(where, value);
    if (key == "match") {
      read_text(key, where, value, rule_.match);
      if (has_inner_star(rule_.match)) note_(where, "redact.match has a * that is not its end");
      return;
    }
    if (key == "action") return read_action(where, value);
    if (key == "with") return read_text(key, where, value, rule_.with);
    if (key == "salt_file") return read_text(key, where, value, rule_.salt_file);
    if (key == "name") {
      read_text(key, where, value, rule_.name);
      if (!rule_.name.empty() && !is_label(rule_.name))
        note_(where, "redact.name has other characters than letters, digits, - _ and .");
      return;
    }
    std::vector<std::string_view> names;
    for (const RouteSetting& setting : redact_settings()) names.push_back(setting.key);
    const std::string_view nearest = nearest_name(key, names);
    note_(where,
          "redact." + std::string(key) + " is not a setting" +
              (nearest.empty() ? std::string() : "; did you mean " + std::string(nearest) + "?"));
  }

  void read_text(std::string_view key, const toml::source_region& where, const toml::node& value,
                 std::string& text) {
    const std::string name = "redact." + std::string(key);
    const auto* given = value.as_string();
    if (given == nullptr) return note_(where, name + " must be a string");
    text = given->get();
    const bool may_be_empty = key == "with";
    if (text.empty() && !may_be_empty) note_(where, name + " is empty");
    if (text.find('\0') != std::string::npos) note_(where, name + " must not hold a NUL");
    if (text.size() > kTextBytesMax && key != "salt_file")
      note_(where, name + " is longer than 200 bytes");
  }

  void read_action(const toml::source_region& where, const toml::node& value) {
    read_text("action", where, value, rule_.action);
    if (rule_.action != "replace" && rule_.action != "hash")
      note_(where, "redact.action must be \"replace\" or \"hash\"");
  }

  void read_fields(const toml::source_region& where, const toml::node& value) {
    const toml::array* fields = value.as_array();
    if (fields == nullptr || fields->empty() || !fields->is_homogeneous(toml::node_type::string))
      return note_(where, "redact.fields must be a list such as [\"password\", \"/data/token\"]");
    if (fields->size() > kFieldsMax) return note_(where, "redact.fields has more than 1000 fields");
    for (const toml::node& field : *fields) {
      rule_.fields.push_back(field.value_or(std::string()));
      const std::string& text = rule_.fields.back();
      if (text.empty()) note_(field.source(), "redact.fields has an empty field");
      if (text.starts_with('/') && !is_json_pointer(text))
        note_(field.source(), "\"" + text + "\" is no JSON pointer: write ~ as ~0");
      if (has_star_among_others(text))
        note_(field.source(), "\"" + text +
                                  "\" has a * that is not a whole part: it stands for any " +
                                  "member in a JSON pointer, such as \"/data/*\"");
    }
  }

  void check_together(const toml::table& table) {
    const auto note = [&](const std::string& what) { note_(table.source(), what); };
    if (!table.contains("fields")) note("a [[redact]] needs fields");
    if (rule_.action == "hash") {
      if (!table.contains("salt_file")) note("a [[redact]] with action = \"hash\" needs salt_file");
      if (table.contains("with")) note("redact.with has no meaning with action = \"hash\"");
      return;
    }
    if (table.contains("salt_file"))
      note("redact.salt_file has no meaning without action = \"hash\"");
    if (std::any_of(rule_.fields.begin(), rule_.fields.end(), takes_key))
      note(
          "redact.fields takes in dedupe_key or id: replaced by one text, different events would "
          "be duplicates of each other; use action = \"hash\"");
  }

  const RouteNote& note_;
  Settings::Redaction rule_;
};

}  // namespace

Settings::Redaction read_redaction(const toml::table& table, const std::string& file,
                                   const RouteNote& note) {
  return RedactReader(note).read(table, file);
}

std::vector<std::string> name_redactions(std::vector<Settings::Redaction>& redactions) {
  std::vector<std::string> problems;
  if (redactions.size() > kRulesMax)
    return {redactions.back().place + ": there are more than 100 [[redact]]"};
  for (std::size_t i = 0; i < redactions.size(); ++i) {
    if (redactions[i].name.empty()) redactions[i].name = std::to_string(i + 1);
  }
  for (auto rule = redactions.begin(); rule != redactions.end(); ++rule) {
    const auto same = std::find_if(redactions.begin(), rule,
                                   [&](const auto& other) { return other.name == rule->name; });
    if (same != rule)
      problems.push_back(rule->place + ": there is another [[redact]] with the name " + rule->name +
                         " (" + same->place + ")");
  }
  return problems;
}

}  // namespace sluice::config
