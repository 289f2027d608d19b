#include "sink/sqlstate.hpp"

#include <algorithm>
#include <array>

namespace sluice::sink {
namespace {

// The first entry that matches a failure counts.
struct Rule {
  std::string_view sqlstate;  // a whole code, or a class of two characters
  std::string_view message;   // what the message must hold; empty: anything
  Action action;
};

constexpr auto kRules = std::to_array<Rule>({
    // 08 is also the class of what pgbouncer says by itself (08P01): pool full, server gone, PAUSE.
    {"08", "", Action::reconnect},      {"57P01", "", Action::reconnect},
    {"57P02", "", Action::reconnect},   {"57P03", "", Action::reconnect},
    {"57P04", "", Action::reconnect},   {"57P05", "", Action::reconnect},
    {"25P03", "", Action::reconnect},   {"25006", "", Action::next_host},
    {"40001", "", Action::retry},       {"40P01", "", Action::retry},
    {"55P03", "", Action::retry},       {"53", "", Action::back_off},
    {"57014", "", Action::halve_batch}, {"42501", "row-level security policy", Action::row},
    {"28", "", Action::hold},           {"3D", "", Action::hold},
    {"3F", "", Action::hold},           {"42", "", Action::hold},
    {"0A", "", Action::hold},           {"XX", "", Action::hold},
    // 22, 23 (23514 "no partition" too), 54, P0 and every code that nobody thought of: see below.
});

// Messages of these are made of names, settings and addresses only. 42601 is missing on purpose: a
// syntax error in a trigger's own SQL quotes that SQL, and with it the row; likewise XX, where an
// extension may say anything.
constexpr auto kRowFree = std::to_array<std::string_view>({
    "08",
    "0A",
    "25",
    "28",
    "3D",
    "3F",
    "40",
    "53",
    "55",
    "57",
    "42501",
    "428C9",
    "42703",
    "42704",
    "42804",
    "42883",
    "42P01",
    "42P10",
});

}  // namespace

Action action_for(const Failure& failure) {
  if (failure.sqlstate.empty()) return Action::reconnect;
  const auto* rule = std::find_if(kRules.begin(), kRules.end(), [&](const Rule& candidate) {
    return failure.sqlstate.starts_with(candidate.sqlstate) &&
           failure.message.find(candidate.message) != std::string::npos;
  });
  if (rule == kRules.end()) return Action::row;
  // What a trigger trips over may be of this row only; where it is not, the route's brake tells.
  return rule->action == Action::hold && failure.is_of_function ? Action::row : rule->action;
}

bool shows_no_row(std::string_view sqlstate) {
  return sqlstate.empty() || std::any_of(kRowFree.begin(), kRowFree.end(),
                                         [&](auto code) { return sqlstate.starts_with(code); });
}

}  // namespace sluice::sink
