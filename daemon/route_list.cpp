#include "daemon/route_list.hpp"

#include <algorithm>
#include <array>
#include <string_view>
#include <utility>

#include "config/loader.hpp"

namespace sluice::daemon {

namespace {

using config::Settings;
using sink::Source;

// Names that stand for one source, whatever the settings say.
constexpr auto kSources = std::to_array<std::pair<std::string_view, Source>>({
    {"$id", Source::id},
    {"$received_at", Source::received_at},
    {"$uid", Source::uid},
    {"$segment", Source::segment},
    {"$index", Source::index},
    {"$dedupe_key", Source::dedupe_key},
    {"$extra", Source::extra},
    {"$line", Source::line},
    {"id", Source::id},
    {"time", Source::occurred_at},
    {"type", Source::type},
    {"source", Source::source},
    {"session_id", Source::session_id},
    {"parent_id", Source::parent_id},
    {"dedupe_key", Source::dedupe_key},
    {"data", Source::data},
});

std::string unescaped(std::string_view token) {
  std::string text;
  for (std::size_t i = 0; i < token.size(); ++i) {
    if (token[i] != '~') {
      text += token[i];
    } else {
      text += token[++i] == '0' ? '~' : '/';
    }
  }
  return text;
}

void set_source(sink::Column& column, const std::string& name, const Settings& settings) {
  const auto* known = std::find_if(kSources.begin(), kSources.end(),
                                   [&](const auto& each) { return each.first == name; });
  const auto& times = settings.ingest.time_fields;
  if (known != kSources.end()) {
    column.source = known->second;
  } else if (std::find(times.begin(), times.end(), name) != times.end()) {
    column.source = Source::occurred_at;
  } else {
    column.source = Source::member;
    column.from = name;
  }
}

// A host's name needs no more.
std::string json_string(const std::string& text) {
  std::string json = "\"";
  for (const char c : text) {
    if (static_cast<unsigned char>(c) < 0x20) continue;
    if (c == '"' || c == '\\') json += '\\';
    json += c;
  }
  return json + '"';
}

sink::Column column_of(const Settings::RouteColumn& given, const Settings& settings,
                       const std::string& instance) {
  sink::Column column;
  column.name = given.name;
  column.type = given.type;
  column.required = given.required;
  column.place = given.place;
  if (given.from.empty()) {
    column.source = Source::constant;
    column.from = given.value;
  } else if (given.from == "$instance") {
    column.source = Source::constant;
    column.from = json_string(instance);
  } else if (!given.from.starts_with('/')) {
    set_source(column, given.from, settings);
  } else if (given.from.find('/', 1) == std::string::npos) {
    // A pointer to a member of the event itself. A name that begins with `$` is a member's here.
    const std::string name = unescaped(std::string_view(given.from).substr(1));
    if (name.starts_with('$')) {
      column.source = Source::member;
      column.from = name;
    } else {
      set_source(column, name, settings);
    }
  } else {
    column.source = Source::pointer;
    column.from = given.from;
  }
  return column;
}

sink::OnConflict on_conflict_of(std::string_view word) {
  if (word == "skip") return sink::OnConflict::skip;
  return word == "dead" ? sink::OnConflict::dead : sink::OnConflict::compare;
}

sink::Route route_of(const Settings::Route& given, const Settings& settings,
                     const std::string& instance) {
  sink::Route route;
  route.match = given.match;
  route.table = given.table;
  route.mode = given.mode == "merge" ? sink::RouteMode::merge : sink::RouteMode::append;
  route.on_conflict = on_conflict_of(given.on_conflict);
  route.key = given.key;
  route.trigger_may_skip = given.trigger_may_skip;
  route.place = given.place;
  for (const auto& column : given.columns)
    route.columns.push_back(column_of(column, settings, instance));
  return route;
}

}  // namespace

std::vector<sink::Route> route_list(const Settings& settings, const std::string& instance) {
  const auto given =
      settings.routes.empty() ? config::model_routes(settings.postgres.model) : settings.routes;
  std::vector<sink::Route> routes;
  for (const auto& route : given) routes.push_back(route_of(route, settings, instance));
  return routes;
}

bool takes_every_type(const Settings& settings) {
  return route_list(settings, "").back().match == "*";
}

}  // namespace sluice::daemon
