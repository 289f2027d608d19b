// Remedies by SQLSTATE (appendix A of PostgreSQL's manual).
#include "daemon/remedy.hpp"

#include <algorithm>
#include <array>

namespace sluice::daemon {
namespace {

struct Remedy {
  std::string_view sqlstate;  // a whole code, or a class of two characters
  std::string_view text;
};

// The first that the code starts with counts.
constexpr auto kRemedies = std::to_array<Remedy>({
    {"42P01", "a table is missing: run `sluice schema apply`"},
    {"3F000", "a schema is missing: run `sluice schema apply`"},
    {"42703", "the table's columns are not the ones wanted: run `sluice check`"},
    {"42804", "the table's column types are not the ones wanted: run `sluice check`"},
    {"42501", "the role lacks a privilege: `sluice check` says which, GRANT it"},
    {"42", "the tables are not as wanted: run `sluice check`"},
    {"28", "the login was refused: mend the role, its password (~/.pgpass) or pg_hba.conf"},
    {"3D000", "the database does not exist: create it or mend postgres.dsn"},
    {"25006", "the server takes no writes: name the primary in postgres.dsn, or wait for it"},
    {"53100", "the server's disk is full: make room there"},
    {"53300", "the server has no connection left: raise max_connections or end some"},
    {"53", "the server is short of something: see its log"},
    {"57014", "a statement was cancelled: see statement_timeout and locks on the table"},
    {"55P03", "somebody holds a lock for long: see pg_locks"},
    {"57", "the server is stopping or starting: wait for it"},
    {"08", "the connection was lost: see that Postgres, or the pooler before it, runs"},
    {"40", "transactions got in each other's way: they are tried again"},
    {"22", "the table refuses a row's value: mend the table, the batch waits"},
    {"23", "a constraint refuses a row: mend the table, the batch waits"},
    {"XX", "the server reports damage or a bug: see its log"},
});

}  // namespace

std::string_view remedy_for(const sink::Failure& failure) {
  if (failure.sqlstate.empty()) return "see that Postgres runs and that postgres.dsn leads to it";
  const auto* found = std::find_if(kRemedies.begin(), kRemedies.end(), [&](const Remedy& remedy) {
    return failure.sqlstate.starts_with(remedy.sqlstate);
  });
  return found == kRemedies.end() ? "see the server's log" : found->text;
}

}  // namespace sluice::daemon
