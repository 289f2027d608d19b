#include "config/loader_route.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <sstream>
#include <string_view>

#include "config/json_pointer.hpp"
#include "config/match_pattern.hpp"
#include "config/nearest_name.hpp"
#include "config/settings_table.hpp"

namespace sluice::config {

namespace {

constexpr std::size_t kMatchBytesMax = 200;  // as a type has at most
constexpr std::size_t kNameBytesMax = 63;    // NAMEDATALEN - 1: Postgres would cut a longer name
constexpr std::size_t kColumnsMax = 1'600;   // of a table in Postgres
constexpr std::size_t kRoutesMax = 1'000;
constexpr std::int64_t kLimitMax = 1'000'000;

std::vector<std::string_view> names_of(std::span<const RouteSetting> settings) {
  std::vector<std::string_view> names;
  for (const RouteSetting& setting : settings) names.push_back(setting.key);
  return names;
}

std::string in_quotes(std::string_view text) {
  return '"' + std::string(text) + '"';
}

std::string did_you_mean(std::string_view name, std::span<const std::string_view> names) {
  const std::string_view nearest = nearest_name(name, names);
  return nearest.empty() ? std::string() : "; did you mean " + std::string(nearest) + "?";
}

// "we.ird"."t": quotes come in pairs, and every part has something in it.
bool is_table_name(std::string_view text) {
  bool quoted = false;
  std::size_t part = 0;
  for (const char c : text) {
    if (c == '"') quoted = !quoted;
    if (c == '.' && !quoted) {
      if (part == 0) return false;
      part = 0;
    } else {
      ++part;
    }
  }
  return !quoted && part != 0;
}

// What is wrong with it, or "".
std::string from_problem(std::string_view from) {
  if (from.empty()) return "is empty";
  if (from.starts_with('/'))
    return is_json_pointer(from) ? "" : in_quotes(from) + " is no JSON pointer: write ~ as ~0";
  if (!from.starts_with('$')) return "";
  const auto names = names_of(route_sources());
  if (std::find(names.begin(), names.end(), from) != names.end()) return "";
  return in_quotes(from) + " is not a value of the daemon's" + did_you_mean(from, names);
}

std::string json_string(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string json = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      json += {'\\', c};
    } else if (byte < 0x20) {
      json += {'\\', 'u', '0', '0', kHex[byte >> 4], kHex[byte & 15]};
    } else {
      json += c;
    }
  }
  return json + '"';
}

template <typename T>
std::string streamed(const T& value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

std::optional<std::string> json_of(const toml::node& node);

std::optional<std::string> json_of_array(const toml::array& array) {
  std::string json = "[";
  for (const toml::node& element : array) {
    const auto value = json_of(element);
    if (!value) return std::nullopt;
    json += (json.size() > 1 ? "," : "") + *value;
  }
  return json + ']';
}

std::optional<std::string> json_of_table(const toml::table& table) {
  std::string json = "{";
  for (const auto& [key, member] : table) {
    const auto value = json_of(member);
    if (!value) return std::nullopt;
    json += (json.size() > 1 ? "," : "") + json_string(key.str()) + ':' + *value;
  }
  return json + '}';
}

// None for what JSON and Postgres do not have: NUL, inf, nan.
std::optional<std::string> json_of(const toml::node& node) {
  if (const auto* text = node.as_string()) {
    if (text->get().find('\0') != std::string::npos) return std::nullopt;
    return json_string(text->get());
  }
  if (const auto* number = node.as_integer()) return std::to_string(number->get());
  if (const auto* truth = node.as_boolean()) return truth->get() ? "true" : "false";
  if (const auto* date = node.as_date()) return json_string(streamed(date->get()));
  if (const auto* time = node.as_time()) return json_string(streamed(time->get()));
  if (const auto* moment = node.as_date_time()) return json_string(streamed(moment->get()));
  if (const auto* array = node.as_array()) return json_of_array(*array);
  if (const auto* table = node.as_table()) return json_of_table(*table);
  const std::string number = streamed(node.value_or(0.0));
  if (number.find_first_of("in") != std::string::npos) return std::nullopt;  // inf, nan
  return number;
}

// One [[route]], key by key.
class RouteReader final {
 public:
  RouteReader(const std::string& file, const RouteNote& note) : file_(file), note_(note) {}

  Settings::Route read(const toml::table& table) {
    route_.place = place_of(table);
    for (const auto& [key, value] : table) read_key(key.str(), key.source(), value);
    for (const std::string_view needed : {"match", "table", "columns"}) {
      if (!table.contains(needed))
        note_(table.source(), "a [[route]] needs " + std::string(needed));
    }
    check_key(table);
    return std::move(route_);
  }

 private:
  [[nodiscard]] std::string place_of(const toml::node& node) const {
    return file_ + ":" + std::to_string(node.source().begin.line);
  }

  void read_key(std::string_view key, const toml::source_region& where, const toml::node& value) {
    if (key == "match") return read_match(where, value);
    if (key == "table") return read_table_name(where, value);
    if (key == "columns") return read_columns(where, value);
    if (key == "mode") return read_choice("mode", where, value, {"append", "merge"}, route_.mode);
    if (key == "on_conflict")
      return read_choice("on_conflict", where, value, {"compare", "skip", "dead"},
                         route_.on_conflict);
    if (key == "key") return read_key_columns(where, value);
    if (key == "trigger_may_skip")
      return read_truth("route.trigger_may_skip", where, value, route_.trigger_may_skip);
    if (key == "dedupe") return read_dedupe(where, value);
    if (key == "dedupe_if") return read_field("route.dedupe_if", where, value, route_.dedupe_if);
    note_(where, "route." + std::string(key) + " is not a setting" +
                     did_you_mean(key, names_of(route_settings())));
  }

  // False: it is no string, which was told.
  bool read_text(const std::string& name, const toml::source_region& where, const toml::node& value,
                 std::string& text) {
    const auto* given = value.as_string();
    if (given == nullptr) {
      note_(where, name + " must be a string");
      return false;
    }
    text = given->get();
    if (!text.empty() && text.find('\0') == std::string::npos) return true;
    note_(where, name + (text.empty() ? " is empty" : " must not hold a NUL"));
    return false;
  }

  void read_truth(const std::string& name, const toml::source_region& where,
                  const toml::node& value, bool& truth) {
    const auto* given = value.as_boolean();
    if (given == nullptr) return note_(where, name + " must be true or false");
    truth = given->get();
  }

  void read_choice(const std::string& key, const toml::source_region& where,
                   const toml::node& value, std::initializer_list<std::string_view> choices,
                   std::string& chosen) {
    if (!read_text("route." + key, where, value, chosen)) return;
    if (std::find(choices.begin(), choices.end(), chosen) != choices.end()) return;
    std::string wish;
    for (const std::string_view choice : choices)
      wish += (wish.empty() ? "" : " or ") + in_quotes(choice);
    note_(where, "route." + key + " " + in_quotes(chosen) + " is not " + wish);
  }

  void read_match(const toml::source_region& where, const toml::node& value) {
    if (!read_text("route.match", where, value, route_.match)) return;
    if (route_.match.size() > kMatchBytesMax)
      note_(where, "route.match is longer than a type can be (200 bytes)");
    if (has_inner_star(route_.match)) note_(where, "route.match has a * that is not its end");
  }

  void read_table_name(const toml::source_region& where, const toml::node& value) {
    if (!read_text("route.table", where, value, route_.table)) return;
    if (!is_table_name(route_.table))
      note_(where, "route.table " + in_quotes(route_.table) +
                       " is no table or schema.table; a dot in a name wants double quotes");
  }

  void read_key_columns(const toml::source_region& where, const toml::node& value) {
    const toml::array* names = value.as_array();
    if (names == nullptr || (!names->empty() && !names->is_homogeneous(toml::node_type::string)))
      return note_(where, "route.key must be a list of column names");
    for (const toml::node& name : *names) route_.key.push_back(name.value_or(std::string()));
  }
  // What the producer sends: the daemon's own values say nothing about what the event is.
  void read_field(const std::string& name, const toml::source_region& where,
                  const toml::node& value, std::string& from) {
    read_from(name, where, value, from);
    if (from.starts_with('$')) note_(where, name + " takes only fields of the event");
  }

  void read_from(const std::string& name, const toml::source_region& where, const toml::node& value,
                 std::string& from) {
    if (!read_text(name, where, value, from)) return;
    const std::string wrong = from_problem(from);
    if (!wrong.empty()) note_(where, name + " " + wrong);
  }

  void read_columns(const toml::source_region& where, const toml::node& value) {
    const toml::array* columns = value.as_array();
    if (columns == nullptr || columns->empty() || !columns->is_homogeneous(toml::node_type::table))
      return note_(where,
                   "route.columns must be a list such as [ { name = \"id\", from = \"$id\" } ]");
    if (columns->size() > kColumnsMax)
      return note_(where, "route.columns has more columns than a table can have");
    for (const toml::node& column : *columns) read_column(*column.as_table());
  }

  void read_column(const toml::table& table) {
    Settings::RouteColumn column;
    column.place = place_of(table);
    for (const auto& [key, value] : table) read_column_key(column, key.str(), key.source(), value);
    if (!table.contains("name")) note_(table.source(), "a column needs a name");
    if (table.contains("from") == table.contains("value"))
      note_(table.source(), "column " + in_quotes(column.name) + " needs one of from and value");
    const auto same = [&](const auto& other) { return other.name == column.name; };
    if (std::any_of(route_.columns.begin(), route_.columns.end(), same))
      note_(table.source(), "there is another column " + in_quotes(column.name));
    route_.columns.push_back(std::move(column));
  }

  void read_column_key(Settings::RouteColumn& column, std::string_view key,
                       const toml::source_region& where, const toml::node& value) {
    if (key == "name") {
      if (read_text("a column's name", where, value, column.name) &&
          column.name.size() > kNameBytesMax)
        note_(where, "column name " + in_quotes(column.name) + " is longer than 63 bytes");
    } else if (key == "from") {
      read_from("a column's from", where, value, column.from);
    } else if (key == "value") {
      const auto json = json_of(value);
      if (!json) note_(where, "a column's value cannot be written as JSON");
      column.value = json.value_or("");
    } else if (key == "type") {
      (void)read_text("a column's type", where, value, column.type);
    } else if (key == "required") {
      read_truth("a column's required", where, value, column.required);
    } else {
      note_(where, "route.columns." + std::string(key) + " is not a setting" +
                       did_you_mean(key, names_of(route_column_settings())));
    }
  }

  void read_dedupe(const toml::source_region& where, const toml::node& value) {
    const toml::array* parts = value.as_array();
    if (parts == nullptr) return note_(where, "route.dedupe must be a list of fields");
    for (const toml::node& part : *parts) {
      Settings::RouteKeyPart& read = route_.dedupe.emplace_back();
      const toml::table* table = part.as_table();
      if (table == nullptr) {
        read_field("route.dedupe", part.source(), part, read.from);
      } else {
        read_limited_part(*table, read);
      }
    }
  }

  void read_limited_part(const toml::table& table, Settings::RouteKeyPart& part) {
    constexpr std::array<std::string_view, 2> kKeys = {"from", "limit"};
    for (const auto& [key, value] : table) {
      if (key.str() == "from") {
        read_field("route.dedupe", key.source(), value, part.from);
      } else if (key.str() == "limit") {
        const std::int64_t limit = value.is_integer() ? value.value_or(std::int64_t{0}) : 0;
        if (limit < 1 || limit > kLimitMax)
          note_(key.source(), "a limit in route.dedupe must be 1 to 1000000 characters");
        part.characters_max = static_cast<std::uint64_t>(limit);
      } else {
        note_(key.source(), "route.dedupe." + std::string(key.str()) + " is not a setting" +
                                did_you_mean(key.str(), kKeys));
      }
    }
    if (!table.contains("from")) note_(table.source(), "a part of route.dedupe needs a from");
  }

  // Once columns and key are both known.
  void check_key(const toml::table& table) {
    std::vector<std::string_view> names;
    for (const auto& column : route_.columns) names.push_back(column.name);
    for (const std::string& name : route_.key) {
      if (std::find(names.begin(), names.end(), name) == names.end())
        note_(table.get("key")->source(), "route.key names " + in_quotes(name) +
                                              ", which is none of the route's columns" +
                                              did_you_mean(name, names));
    }
    if (!route_.dedupe_if.empty() && route_.dedupe.empty())
      note_(table.get("dedupe_if")->source(), "route.dedupe_if has no meaning without dedupe");
  }

  const std::string& file_;
  const RouteNote& note_;
  Settings::Route route_;
};

// Whether every type that fits `later` fits `earlier` too.
bool covers(std::string_view earlier, std::string_view later) {
  if (!earlier.ends_with('*')) return earlier == later;
  if (later.ends_with('*')) later.remove_suffix(1);
  return later.starts_with(earlier.substr(0, earlier.size() - 1));
}

}  // namespace

Settings::Route read_route(const toml::table& table, const std::string& file,
                           const RouteNote& note) {
  return RouteReader(file, note).read(table);
}

std::vector<std::string> problems_between(const std::vector<Settings::Route>& routes) {
  std::vector<std::string> problems;
  if (routes.size() > kRoutesMax)
    return {routes.back().place + ": there are more than 1000 routes"};
  for (std::size_t later = 0; later < routes.size(); ++later) {
    for (std::size_t earlier = 0; earlier < later; ++earlier) {
      if (!covers(routes[earlier].match, routes[later].match)) continue;
      problems.push_back(routes[later].place + ": no event reaches the route for " +
                         in_quotes(routes[later].match) + ": the one for " +
                         in_quotes(routes[earlier].match) + " before it (" + routes[earlier].place +
                         ") takes them all");
      break;
    }
  }
  return problems;
}

}  // namespace sluice::config
