#include "daemon/route_rules.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "config/loader.hpp"

namespace sluice::daemon {
namespace {

using config::Settings;

// The producer's member that a column takes; empty: it takes none, or one inside of another, or one
// that the daemon gives where it is missing.
std::string member_of(const std::string& from, const Settings& settings) {
  std::string name = from == "$dedupe_key" ? "dedupe_key" : from;
  if (name.starts_with('$')) return "";
  if (name.starts_with('/')) {
    name.erase(0, 1);
    if (name.find_first_of("/~") != std::string::npos) return "";
  }
  const auto& times = settings.ingest.time_fields;
  const bool is_given = name == "id" || name == "type" || name == "time" ||
                        std::find(times.begin(), times.end(), name) != times.end();
  return is_given ? "" : name;
}

ingest::RouteRule rule_of(const Settings::Route& route, const Settings& settings) {
  ingest::RouteRule rule;
  rule.match = route.match;
  for (const Settings::RouteKeyPart& part : route.dedupe) {
    rule.dedupe.push_back({part.from, part.characters_max});
  }
  rule.dedupe_if = route.dedupe_if;
  for (const Settings::RouteColumn& column : route.columns) {
    const std::string member = member_of(column.from, settings);
    if (member == "dedupe_key") rule.stores_key = true;
    if (column.required && !member.empty()) rule.required.push_back(member);
  }
  return rule;
}

}  // namespace

std::vector<ingest::RouteRule> route_rules(const Settings& settings) {
  std::vector<ingest::RouteRule> rules;
  const auto routes =
      settings.routes.empty() ? config::model_routes(settings.postgres.model) : settings.routes;
  for (const Settings::Route& route : routes) rules.push_back(rule_of(route, settings));
  return rules;
}

}  // namespace sluice::daemon
